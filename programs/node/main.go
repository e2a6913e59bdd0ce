// Command node is the kubelet and containerd in one binary: they share most of their packages, and one program
// compresses to far less than two. It acts as what it is called: the base name of argv[0] is `kubelet` or `containerd`.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	name := filepath.Base(os.Args[0])
	switch name {
	case "kubelet":
		os.Exit(kubelet())
	case "containerd":
		os.Exit(containerd(os.Args[1:]))
	}
	fmt.Fprintf(os.Stderr, "node: `%s` is not a program: call it as `kubelet` or `containerd`\n", name)
	os.Exit(2)
}
