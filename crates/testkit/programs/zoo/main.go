// Animals that live in pods: each takes one thing without end. `zoo keep` takes a little and lives on beside them.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const mib = 1 << 20

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "zoo: which animal?")
		os.Exit(2)
	}
	if os.Args[1] == "pid1" {
		pid1()
		return
	}
	// Whoever watches sees it run first.
	time.Sleep(2 * time.Second)
	animals := map[string]func(){
		"keep": keep, "sleep": sleep, "memory": memory, "fill": fill, "log": log, "fork": fork, "inodes": inodes, "files": files,
	}
	animal, known := animals[os.Args[1]]
	if !known {
		fmt.Fprintln(os.Stderr, "zoo: no such animal:", os.Args[1])
		os.Exit(2)
	}
	animal()
}

// pid1 prints the memory of the process 1 in KiB, without pages of files: what is its own (proc_pid_status(5), RssAnon).
func pid1() {
	status, err := os.ReadFile("/proc/1/status")
	if err != nil {
		fmt.Fprintln(os.Stderr, "zoo:", err)
		os.Exit(1)
	}
	for line := range strings.Lines(string(status)) {
		if kib, found := strings.CutPrefix(line, "RssAnon:"); found {
			fmt.Println(strings.Fields(kib)[0])
		}
	}
}

// folder is where files go.
func folder() string {
	return os.Args[2]
}

// keep reads its own memory again and again, so that a node without memory for it shows.
func keep() {
	kept := bytes.Repeat([]byte{1}, 8*mib)
	for {
		sum := 0
		for i := 0; i < len(kept); i += 4096 {
			sum += int(kept[i])
		}
		fmt.Println("kept", sum)
		time.Sleep(5 * time.Second)
	}
}

func sleep() {
	for {
		time.Sleep(time.Hour)
	}
}

func memory() {
	var taken [][]byte
	for {
		taken = append(taken, bytes.Repeat([]byte{1}, mib))
	}
}

// fill goes on where the file system is full: somebody may make room.
func fill() {
	file, err := os.Create(filepath.Join(folder(), "filled"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "zoo:", err)
		os.Exit(1)
	}
	block := bytes.Repeat([]byte{1}, mib)
	for {
		if _, err := file.Write(block); err != nil {
			time.Sleep(100 * time.Millisecond)
		}
	}
}

func log() {
	line := append(bytes.Repeat([]byte{'x'}, 1000), '\n')
	for {
		os.Stdout.Write(line)
	}
}

// fork starts processes that do nothing, and tries on where there may be no more. They are small: each is a copy of this one that waits
// for a signal at once, before Go's runtime notices that its threads are gone.
func fork() {
	for {
		pid, _, errno := syscall.RawSyscall(syscall.SYS_FORK, 0, 0, 0)
		if pid == 0 && errno == 0 {
			for {
				syscall.RawSyscall(syscall.SYS_PAUSE, 0, 0, 0)
			}
		}
		if errno != 0 {
			time.Sleep(100 * time.Millisecond)
		}
	}
}

func inodes() {
	for n := 0; ; {
		file, err := os.Create(filepath.Join(folder(), strconv.Itoa(n)))
		if err != nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		file.Close()
		n++
	}
}

// files opens pipes and closes none; where this process may have no more, another one goes on.
func files() {
	for {
		var ends [2]int
		switch err := syscall.Pipe(ends[:]); err {
		case nil:
		case syscall.EMFILE:
			again := syscall.ProcAttr{Files: []uintptr{0, 1, 2}}
			if _, err := syscall.ForkExec("/proc/self/exe", os.Args, &again); err == nil {
				sleep()
			}
			time.Sleep(100 * time.Millisecond)
		default:
			time.Sleep(100 * time.Millisecond)
		}
	}
}
