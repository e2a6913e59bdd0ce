package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// mirrors keeps containerd's mirrors as the network has them: the hosts.toml of each registry in folder from, filled in, in folder to.
type mirrors struct {
	from, to string
	// What was written, and which mirrors were left out, by registry.
	written map[string]string
	lost    map[string][]lostMirror
}

// keepMirrors fills in mirrors with what the node's network was told (the document lease), makes the file ready, and does so anew
// whenever that changes. What is not known yet keeps nobody waiting: its mirrors are left out until it is. An error is one of the watch.
func keepMirrors(lease, from, to, ready string) error {
	changes, err := watchFolder(filepath.Dir(lease))
	if err != nil {
		return err
	}
	kept := mirrors{from: from, to: to, written: map[string]string{}, lost: map[string][]lostMirror{}}
	var seen []byte
	for first := true; ; first = false {
		text, err := os.ReadFile(lease)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			say("%v", err)
		}
		if first || !bytes.Equal(text, seen) {
			kept.fill(readFacts(text))
			seen = text
		}
		if first {
			if err := os.WriteFile(ready, nil, 0o644); err != nil {
				return err
			}
		}
		if err := changes.wait(); err != nil {
			return err
		}
	}
}

// fill writes the files that facts change. What cannot be written is said, and tried again when facts change.
func (m *mirrors) fill(facts *strings.Replacer) {
	files, _ := filepath.Glob(filepath.Join(m.from, "*", "hosts.toml"))
	for _, file := range files {
		registry := filepath.Base(filepath.Dir(file))
		text, err := os.ReadFile(file)
		if err != nil {
			say("%v", err)
			continue
		}
		filled, lost := fillHosts(string(text), facts)
		for _, mirror := range lost {
			if !slices.Contains(m.lost[registry], mirror) {
				say("`%s` goes without %s: `%s` is not known; help: have DHCP say it, or write the address into the recipe",
					registry, mirror.what(), mirror.unknown)
			}
		}
		m.lost[registry] = lost
		before, again := m.written[registry]
		if again && before == filled {
			continue
		}
		// At once, as containerd may read it meanwhile.
		if err := writeWhole(m.to, filepath.Join(registry, "hosts.toml"), filled, 0o644); err != nil {
			say("%v", err)
			continue
		}
		m.written[registry] = filled
		if again {
			say("`%s` has its mirrors as the network is now: %s", registry, mirrorsOf(filled))
		}
	}
}

func say(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "registry-mirrors: "+format+"\n", values...)
}

// readFacts gives what a lease says for ${gateway} and the like; nothing where it says nothing.
func readFacts(lease []byte) *strings.Replacer {
	told := map[string]any{}
	if err := json.Unmarshal(lease, &told); err != nil && len(lease) > 0 {
		say("what the network was told: %v", err)
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
	return strings.NewReplacer(pairs...)
}

// folderWatch tells when a file of a folder was written or replaced (inotify(7)).
type folderWatch int

func watchFolder(folder string) (folderWatch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("watching `%s`: %w", folder, err)
	}
	if _, err := unix.InotifyAddWatch(fd, folder, unix.IN_CLOSE_WRITE|unix.IN_MOVED_TO); err != nil {
		return 0, fmt.Errorf("watching `%s`: %w", folder, err)
	}
	return folderWatch(fd), nil
}

// wait returns after the next change, whichever file it was.
func (w folderWatch) wait() error {
	var events [4096]byte
	for {
		if _, err := unix.Read(int(w), events[:]); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
