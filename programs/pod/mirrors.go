package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// fillMirrors copies the hosts.toml of each registry in folder from to folder to, with what the node's network was told (the document
// lease) in place of ${gateway} and the like.
func fillMirrors(lease, from, to string) error {
	facts, err := readFacts(lease)
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(from, "*", "hosts.toml"))
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		filled := facts.Replace(string(text))
		if _, rest, found := strings.Cut(filled, "${"); found {
			name, _, _ := strings.Cut(rest, "}")
			return fmt.Errorf("`%s`: `${%s}` is not known", file, name)
		}
		folder := filepath.Join(to, filepath.Base(filepath.Dir(file)))
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		// containerd may read it meanwhile.
		place := filepath.Join(folder, "hosts.toml")
		if err := os.WriteFile(place+".new", []byte(filled), 0o644); err != nil {
			return err
		}
		if err := os.Rename(place+".new", place); err != nil {
			return err
		}
	}
	return nil
}

func readFacts(lease string) (*strings.Replacer, error) {
	bytes, err := os.ReadFile(lease)
	if err != nil {
		return nil, err
	}
	var told map[string]any
	if err := json.Unmarshal(bytes, &told); err != nil {
		return nil, fmt.Errorf("`%s`: %w", lease, err)
	}
	// The boot server is the DHCP server where that names no other, as for roots.
	if text, _ := told["boot_server"].(string); text == "" {
		told["boot_server"] = told["server"]
	}
	var pairs []string
	for _, name := range []string{"ip", "ip6", "hostname", "mac", "gateway", "boot_server"} {
		text, _ := told[name].(string)
		if text == "" {
			continue
		}
		// In a URL (RFC 3986 section 3.2.2).
		if ip := net.ParseIP(text); ip != nil && ip.To4() == nil {
			text = "[" + text + "]"
		}
		pairs = append(pairs, "${"+name+"}", text)
	}
	return strings.NewReplacer(pairs...), nil
}
