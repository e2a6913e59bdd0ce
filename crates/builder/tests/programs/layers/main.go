// Command layers lays OCI layers over each other with other people's code, for tests/crosscheck:
//
//	layers umoci|containerd ROOT LAYER...  applies tar layers, in order, to the folder ROOT
//	layers umoci-image ROOT LAYOUT         unpacks the first image of an OCI layout, with every check that umoci makes
//	layers platform WANTED < index.json    prints the digest that containerd takes of an index for a platform
//
// It exits with 1 and the library's own words when that refuses.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sort"

	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/umoci/oci/cas/dir"
	"github.com/opencontainers/umoci/oci/casext"
	"github.com/opencontainers/umoci/oci/layer"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) >= 2 && args[0] == "umoci":
		return each(args[2:], func(file *os.File) error {
			return layer.UnpackLayer(args[1], file, &layer.UnpackOptions{OnDiskFormat: layer.DirRootfs{}})
		})
	case len(args) >= 2 && args[0] == "containerd":
		return each(args[2:], func(file *os.File) error {
			_, err := archive.Apply(context.Background(), args[1], file)
			return err
		})
	case len(args) == 3 && args[0] == "umoci-image":
		return image(args[1], args[2])
	case len(args) == 2 && args[0] == "platform":
		return platform(args[1])
	}
	return errors.New("usage: layers umoci|containerd ROOT LAYER... | umoci-image ROOT LAYOUT | platform WANTED")
}

func each(paths []string, apply func(*os.File) error) error {
	for _, path := range paths {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		err = apply(file)
		file.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func image(root, layout string) error {
	ctx := context.Background()
	engine, err := dir.Open(layout)
	if err != nil {
		return err
	}
	defer engine.Close()
	index, err := engine.GetIndex(ctx)
	if err != nil {
		return err
	}
	blob, err := casext.NewEngine(engine).FromDescriptor(ctx, index.Manifests[0])
	if err != nil {
		return err
	}
	defer blob.Close()
	manifest, ok := blob.Data.(ispec.Manifest)
	if !ok {
		return fmt.Errorf("%s is no image", blob.Descriptor.MediaType)
	}
	return layer.UnpackRootfs(ctx, engine, root, manifest, &layer.UnpackOptions{OnDiskFormat: layer.DirRootfs{}})
}

// platform ranks as containerd's images.Manifest does: what names no platform comes last.
func platform(wanted string) error {
	var index struct {
		Manifests []struct {
			Digest   digest.Digest
			Platform *ispec.Platform
		}
	}
	if err := json.NewDecoder(os.Stdin).Decode(&index); err != nil {
		return err
	}
	parsed, err := platforms.Parse(wanted)
	if err != nil {
		return err
	}
	matcher, kept := platforms.Only(parsed), index.Manifests[:0]
	for _, manifest := range index.Manifests {
		if manifest.Platform == nil || matcher.Match(*manifest.Platform) {
			kept = append(kept, manifest)
		}
	}
	sort.SliceStable(kept, func(i, j int) bool {
		if kept[i].Platform == nil {
			return false
		}
		return kept[j].Platform == nil || matcher.Less(*kept[i].Platform, *kept[j].Platform)
	})
	if len(kept) == 0 {
		return errors.New("none")
	}
	fmt.Println(kept[0].Digest)
	return nil
}
