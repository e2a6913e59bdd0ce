package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// Where the boot server answers, and the key that it signs with: a file of the node's own segment. Without it there is no cluster.
	joinSettings = "etc/bootwright/join.json"
	// Where kubeadm has it.
	clusterCA = "etc/kubernetes/pki/ca.crt"
	// kubelet merges it after what PID1 wrote (00-memory.conf) and before what a recipe adds (90-mine.conf).
	kubeletDropIn = "etc/kubernetes/kubelet.conf.d/10-cluster.conf"
	kubeconfig    = "var/lib/kubelet/kubeconfig"
	// Certificate and key, where kubelet keeps those that it has renewed.
	kubeletPKI    = "var/lib/kubelet/pki"
	currentClient = "kubelet-client-current.pem"
	joinNote      = "run/bootwright/notes/join"
	firmwareUUID  = "/sys/class/dmi/id/product_uuid"

	joinVersion = 1
	// What the signature is over comes after it: the key may sign other things.
	signedPrefix = "bootwright join answer 1\n"
	nodesGroup   = "system:nodes"
	// A clock that is more off makes certificates invalid that were just made.
	clockLimit = 5 * time.Minute
	firstPause = time.Second
	lastPause  = 15 * time.Second
)

// joinPlace is joinSettings.
type joinPlace struct {
	Version int    `json:"version"`
	URL     string `json:"url"`
	Key     []byte `json:"public_key"`
}

// joinQuestion is what the boot server is sent.
type joinQuestion struct {
	Version int    `json:"version"`
	Node    string `json:"node"`
	MAC     string `json:"mac,omitempty"`
	UUID    string `json:"uuid,omitempty"`
	Nonce   []byte `json:"nonce"`
	Request string `json:"request"`
}

// signedAnswer is what it sends: a joinAnswer in JSON, and the signature of signedPrefix and those bytes.
type signedAnswer struct {
	Answer    []byte `json:"answer"`
	Signature []byte `json:"signature"`
}

type joinAnswer struct {
	Version     int             `json:"version"`
	Nonce       []byte          `json:"nonce"`
	Time        int64           `json:"time"`
	Cluster     string          `json:"cluster"`
	Node        string          `json:"node"`
	Servers     []string        `json:"servers"`
	CA          string          `json:"ca"`
	Certificate string          `json:"certificate"`
	Kubelet     json.RawMessage `json:"kubelet"`
}

// nodeJoin is the program node-join.
func nodeJoin(arguments []string) error {
	flags := flag.NewFlagSet("node-join", flag.ContinueOnError)
	root := flags.String("root", "/", "folder that stands for the node's root")
	node := flags.String("node", "", "the node's name")
	mac := flags.String("mac", "", "MAC address of the card that the node boots from")
	if len(arguments) == 0 {
		return errors.New("usage: node-join certify --node=NAME --mac=MAC, or node-join run KUBELET [ARGUMENT...]")
	}
	switch arguments[0] {
	case "certify":
		if err := flags.Parse(arguments[1:]); err != nil {
			return err
		}
		return certify(*root, strings.ToLower(*node), *mac)
	case "run":
		return runKubelet(arguments[1:])
	default:
		return fmt.Errorf("`%s` is neither `certify` nor `run`", arguments[0])
	}
}

// runKubelet becomes command, which is kubelet and its arguments: with the kubeconfig where the node belongs to a cluster, alone elsewhere.
func runKubelet(command []string) error {
	if len(command) == 0 {
		return errors.New("which program is to run?")
	}
	if _, err := os.Stat("/" + joinSettings); err == nil {
		command = append(slices.Clone(command), "--kubeconfig=/"+kubeconfig)
	}
	return fmt.Errorf("starting `%s`: %w", command[0], unix.Exec(command[0], command, os.Environ()))
}

// certify makes kubelet's key, has the boot server get it certified, and writes what kubelet joins the cluster with. It asks until it is
// answered; what stands in the way is said once. Without joinSettings there is nothing to do.
func certify(root, node, mac string) error {
	place, err := readPlace(filepath.Join(root, joinSettings))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	subject := pkix.Name{Organization: []string{nodesGroup}, CommonName: "system:node:" + node}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, key)
	if err != nil {
		return err
	}
	uuid, _ := os.ReadFile(firmwareUUID)
	question := joinQuestion{
		Version: joinVersion, Node: node, MAC: mac, UUID: strings.ToLower(strings.TrimSpace(string(uuid))),
		Request: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request})),
	}
	said := ""
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		answer, err := place.ask(question, &key.PublicKey)
		if err == nil {
			return answer.write(root, key)
		}
		if said != err.Error() {
			said = err.Error()
			fmt.Fprintf(os.Stderr, "waiting to join as %s: %s\n", node, said)
		}
		time.Sleep(pause)
	}
}

func readPlace(path string) (*joinPlace, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	place := new(joinPlace)
	if err := json.Unmarshal(text, place); err != nil {
		return nil, fmt.Errorf("`%s` cannot be read: %w", path, err)
	}
	if place.Version != joinVersion || len(place.Key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("`%s` is of another version: write the boot chain anew", path)
	}
	return place, nil
}

// ask asks once. The question gets a new nonce, so that no answer of before fits.
func (place *joinPlace) ask(question joinQuestion, key *ecdsa.PublicKey) (*joinAnswer, error) {
	question.Nonce = make([]byte, 32)
	if _, err := rand.Read(question.Nonce); err != nil {
		return nil, err
	}
	body, err := json.Marshal(question)
	if err != nil {
		return nil, err
	}
	text, err := post(place.URL, body)
	if err != nil {
		return nil, err
	}
	var signed signedAnswer
	if err := json.Unmarshal(text, &signed); err != nil {
		return nil, fmt.Errorf("the answer of `%s` makes no sense: %w", place.URL, err)
	}
	if !ed25519.Verify(place.Key, append([]byte(signedPrefix), signed.Answer...), signed.Signature) {
		return nil, fmt.Errorf("the answer of `%s` is not signed by the key that this node was booted with", place.URL)
	}
	answer := new(joinAnswer)
	if err := json.Unmarshal(signed.Answer, answer); err != nil {
		return nil, fmt.Errorf("the answer of `%s` makes no sense: %w", place.URL, err)
	}
	return answer, answer.check(question, key)
}

// check refuses what is no answer to that question: one of another version, to a question of before, for another node or another key.
func (answer *joinAnswer) check(question joinQuestion, key *ecdsa.PublicKey) error {
	switch {
	case answer.Version != joinVersion:
		return fmt.Errorf("the answer has version %d, this image reads %d", answer.Version, joinVersion)
	case !bytes.Equal(answer.Nonce, question.Nonce):
		return errors.New("the answer is to another question: somebody replays it")
	case answer.Node != question.Node:
		return fmt.Errorf("the answer is for the node `%s`", answer.Node)
	case len(answer.Servers) == 0:
		return errors.New("the answer names no API server")
	}
	block, _ := pem.Decode([]byte(answer.Certificate))
	if block == nil {
		return errors.New("the answer holds no certificate")
	}
	public, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return err
	}
	// It holds the key as it stands (RFC 5280 section 4.1, subjectPublicKeyInfo). Whom it names is the API server's to judge.
	if !bytes.Contains(block.Bytes, public) {
		return errors.New("the certificate is for another key")
	}
	return nil
}

// write lays down what kubelet reads. The kubeconfig comes last.
func (answer *joinAnswer) write(root string, key *ecdsa.PrivateKey) error {
	now := time.Now()
	if off := now.Sub(time.Unix(answer.Time, 0)).Round(time.Second); off.Abs() > clockLimit {
		fmt.Fprintf(os.Stderr, "this node's clock is %s off the boot server's: name a time server, or certificates will not be valid\n", off)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	identity := answer.Certificate + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	// As kubelet names them.
	dated := now.UTC().Format("kubelet-client-2006-01-02-15-04-05.pem")
	current := filepath.Join(root, kubeletPKI, currentClient)
	config, err := json.MarshalIndent(answer.kubeconfig(), "", "  ")
	if err != nil {
		return err
	}
	steps := []func() error{
		func() error { return writeWhole(root, clusterCA, answer.CA, 0o644) },
		func() error { return writeWhole(root, kubeletDropIn, string(answer.Kubelet), 0o644) },
		func() error { return writeWhole(root, filepath.Join(kubeletPKI, dated), identity, 0o600) },
		func() error { return os.RemoveAll(current + ".new") },
		func() error { return os.Symlink(dated, current+".new") },
		func() error { return os.Rename(current+".new", current) },
		func() error { return writeWhole(root, kubeconfig, string(config), 0o600) },
		func() error {
			return writeWhole(root, joinNote, fmt.Sprintf("certificate for %s as %s\n", answer.Cluster, answer.Node), 0o644)
		},
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// kubeconfig is the document that kubelet reads (kubernetes.io/docs/reference/config-api/kubeconfig.v1), in JSON, which is YAML too.
func (answer *joinAnswer) kubeconfig() map[string]any {
	identity := "/" + kubeletPKI + "/" + currentClient
	cluster := map[string]string{"server": firstThatAnswers(answer.Servers), "certificate-authority": "/" + clusterCA}
	user := map[string]string{"client-certificate": identity, "client-key": identity}
	context := map[string]string{"cluster": answer.Cluster, "user": "kubelet"}
	return map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "kubelet",
		"clusters": []any{map[string]any{"name": answer.Cluster, "cluster": cluster}},
		"users":    []any{map[string]any{"name": "kubelet", "user": user}},
		"contexts": []any{map[string]any{"name": "kubelet", "context": context}},
	}
}

// firstThatAnswers is the first API server that takes a connection, else the first: a kubeconfig holds one.
func firstThatAnswers(servers []string) string {
	for _, server := range servers {
		host, _ := hostOf(server, "https://", "443")
		if connection, err := net.DialTimeout("tcp", host, 2*time.Second); err == nil {
			connection.Close()
			return server
		}
	}
	return servers[0]
}

// writeWhole writes a file below root, whole or not at all.
func writeWhole(root, path, text string, mode os.FileMode) error {
	place := filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(place), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(place+".new", []byte(text), mode); err != nil {
		return err
	}
	return os.Rename(place+".new", place)
}
