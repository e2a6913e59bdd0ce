// https is a TLS tunnel for PID1, which speaks HTTP itself:
//
//	https ADDRESS:PORT SERVERNAME CAFOLDER
//
// It connects, checks the server's certificate against the PEM files of CAFOLDER, writes one line to standard output,
// "ok" or what went wrong (beginning with "certificate: " when it is that), and then carries standard input to the server and the server's answer to standard output.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// How long the connection and the handshake may take together.
const patience = 15 * time.Second

func main() {
	conn, err := connect(os.Args[1:])
	if err != nil {
		var wrong *tls.CertificateVerificationError
		if errors.As(err, &wrong) {
			err = errors.New("certificate: " + wrong.Err.Error())
		}
		// PID1 reads one line.
		os.Stdout.WriteString(strings.ReplaceAll(err.Error(), "\n", " ") + "\n")
		os.Exit(1)
	}
	os.Stdout.WriteString("ok\n")
	go io.Copy(conn, os.Stdin)
	if _, err := io.Copy(os.Stdout, conn); err != nil {
		os.Exit(1)
	}
}

func connect(args []string) (net.Conn, error) {
	if len(args) != 3 {
		return nil, errors.New("usage: https ADDRESS:PORT SERVERNAME CAFOLDER")
	}
	roots, err := certificates(args[2])
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: roots, ServerName: args[1], NextProtos: []string{"http/1.1"}}
	return tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", args[0], config)
}

// certificates reads all files of a folder; one that holds no certificate is an error.
func certificates(folder string) (*x509.CertPool, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, errors.New("no certificates in " + folder)
	}
	pool := x509.NewCertPool()
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if !pool.AppendCertsFromPEM(text) {
			return nil, errors.New("no certificate in " + file)
		}
	}
	return pool, nil
}
