package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// The node's name for targets.
	initiatorName = "/etc/iscsi/initiatorname.iscsi"
	// Sessions that were there before iscsid first ran, by their folders in sysfs, one a line.
	rootSessions = "/run/iscsi/root-sessions"
	// As PID1 makes names for its own sessions.
	namePrefix = "iqn.2024-07.internal.bootwright:"
)

// iscsidBesideRoot becomes command, which is iscsid and its arguments. iscsid takes over each session that it finds: it would log in again
// by itself when a server is lost, and end the session when somebody logs out of all. The sessions of roots and volumes are PID1's, so
// this process sees them no longer: their folders of sysfs are hidden, in a mount namespace of its own.
func iscsidBesideRoot(command []string) error {
	for _, folder := range []string{"/run/iscsi", "/run/lock/iscsi"} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	if err := writeName(); err != nil {
		return err
	}
	folders, err := sessionsOfPID1()
	if err != nil {
		return err
	}
	// exec keeps the namespace of the thread that calls it.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("making a mount namespace: %w", err)
	}
	// What is mounted on the node goes on to arrive, and nothing of here arrives there.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("parting from the node's mounts: %w", err)
	}
	for _, folder := range folders {
		if err := unix.Mount("hidden", folder, "tmpfs", unix.MS_RDONLY, "size=4k"); err != nil {
			return fmt.Errorf("hiding `%s`: %w", folder, err)
		}
	}
	return fmt.Errorf("starting `%s`: %w", command[0], unix.Exec(command[0], command, os.Environ()))
}

// writeName gives the node its name, unless the image or a volume has one.
func writeName() error {
	text, err := os.ReadFile(initiatorName)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, "InitiatorName=") {
			return nil
		}
	}
	name, err := nodeName()
	if err != nil {
		return err
	}
	return os.WriteFile(initiatorName, []byte("InitiatorName="+name+"\n"), 0o600)
}

// sessionsOfPID1 gives the folders in sysfs of the sessions that are PID1's: those that are there when iscsid has never run, as nobody but
// iscsid makes one after that. A session that has gone since is left out.
func sessionsOfPID1() ([]string, error) {
	text, err := os.ReadFile(rootSessions)
	if errors.Is(err, os.ErrNotExist) {
		var found []string
		links, _ := filepath.Glob("/sys/class/iscsi_session/*/device")
		for _, link := range links {
			folder, err := filepath.EvalSymlinks(link)
			if err != nil {
				return nil, err
			}
			found = append(found, folder)
		}
		text = []byte(strings.Join(found, "\n"))
		err = os.WriteFile(rootSessions, text, 0o600)
	}
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(strings.Fields(string(text)), func(folder string) bool {
		_, err := os.Stat(folder)
		return err != nil
	}), nil
}

// nodeName is the name that PID1 uses for a root over iSCSI: that of the kernel command line, that of the firmware, else one made from a MAC
// address, which is the same at each boot.
func nodeName() (string, error) {
	words, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return "", err
	}
	boot := ""
	for _, word := range strings.Fields(string(words)) {
		if name, found := strings.CutPrefix(word, "bw.iscsi.initiator="); found && name != "" {
			return strings.ToLower(name), nil
		}
		// 01- stands for Ethernet.
		if address, found := strings.CutPrefix(word, "BOOTIF="); found {
			boot = strings.TrimPrefix(address, "01-")
		}
	}
	if name, err := os.ReadFile("/sys/firmware/ibft/initiator/initiator-name"); err == nil && len(bytes.TrimSpace(name)) > 0 {
		return strings.ToLower(string(bytes.TrimSpace(name))), nil
	}
	if boot == "" {
		boot = lowestAddress()
	}
	if boot == "" {
		id, err := os.ReadFile("/etc/machine-id")
		if err != nil {
			return "", err
		}
		boot = string(id)
	}
	return namePrefix + strings.NewReplacer(":", "", "-", "", "\n", "").Replace(strings.ToLower(boot)), nil
}

// lowestAddress is the lowest MAC address of the interfaces that belong to a device; of a bond's members their own one counts.
func lowestAddress() string {
	lowest := ""
	devices, _ := filepath.Glob("/sys/class/net/*/device")
	for _, device := range devices {
		folder := filepath.Dir(device)
		text, err := os.ReadFile(filepath.Join(folder, "bonding_slave/perm_hwaddr"))
		if err != nil {
			text, _ = os.ReadFile(filepath.Join(folder, "address"))
		}
		address := strings.TrimSpace(string(text))
		if strings.Trim(address, "0:") != "" && (lowest == "" || address < lowest) {
			lowest = address
		}
	}
	return lowest
}
