// Animals that live in pods: each takes one thing without end. `zoo keep` takes a little and lives on beside them.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const mib = 1 << 20

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "zoo: which animal?")
		os.Exit(2)
	}
	// Whoever watches sees it run first.
	time.Sleep(2 * time.Second)
	animals := map[string]func(){"keep": keep, "memory": memory, "fill": fill}
	animal, known := animals[os.Args[1]]
	if !known {
		fmt.Fprintln(os.Stderr, "zoo: no such animal:", os.Args[1])
		os.Exit(2)
	}
	animal()
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
