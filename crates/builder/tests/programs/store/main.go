// Command store looks at containerd's root with containerd's own code, for tests/crosscheck:
//
//	store check DATABASE...         lets bbolt check databases, write into them, and check them again
//	store baked ROOT                collects garbage, then prints all images and what a container of each sees
//	store pulled ROOT LAYOUT NAME   unpacks the first image of an OCI layout into an empty ROOT, and prints the same of it
//	store version                   prints the version of containerd that it is made of
//
// It exits with 1 and the library's own words when that refuses. Views are mounted: it needs root, and a mount namespace of its own.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"sort"
	"strings"
	"syscall"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff/apply"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/rootfs"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

const snapshotter = "overlayfs"

var platform = platforms.Only(platforms.MustParse("linux/amd64"))

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	ctx := namespaces.WithNamespace(context.Background(), "k8s.io")
	switch {
	case len(args) >= 2 && args[0] == "check":
		for _, path := range args[1:] {
			if err := check(path); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
		return nil
	case len(args) == 2 && args[0] == "baked":
		return baked(ctx, args[1])
	case len(args) == 4 && args[0] == "pulled":
		return pulled(ctx, args[1], args[2], args[3])
	case len(args) == 1 && args[0] == "version":
		info, _ := debug.ReadBuildInfo()
		for _, module := range info.Deps {
			if module.Path == "github.com/containerd/containerd/v2" {
				fmt.Println(module.Version)
			}
		}
		return nil
	}
	return errors.New("usage: store check DATABASE... | baked ROOT | pulled ROOT LAYOUT NAME | version")
}

// check prints what a database holds, as it is before bbolt writes into it: `B DEPTH KEY SEQUENCE` and `V DEPTH KEY VALUE` in hex.
func check(path string) error {
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		return err
	}
	defer db.Close()
	verify := func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			return err
		}
		return nil
	}
	if err := db.View(func(tx *bolt.Tx) error {
		dump(tx.Cursor().Bucket(), 0)
		return verify(tx)
	}); err != nil {
		return err
	}
	if err := db.Update(func(tx *bolt.Tx) error {
		bucket, err := tx.CreateBucket([]byte("new"))
		if err != nil {
			return err
		}
		for i := range 2000 {
			if err := bucket.Put(fmt.Appendf(nil, "%d", i), make([]byte, i%300)); err != nil {
				return err
			}
		}
		var first []byte
		if first, _ = tx.Cursor().First(); tx.Bucket(first) != nil {
			return tx.DeleteBucket(first)
		}
		return nil
	}); err != nil {
		return err
	}
	return db.View(verify)
}

func dump(bucket *bolt.Bucket, depth int) {
	_ = bucket.ForEach(func(key, value []byte) error {
		if child := bucket.Bucket(key); value == nil && child != nil {
			fmt.Printf("B %d %x %d\n", depth, key, child.Sequence())
			dump(child, depth+1)
		} else {
			fmt.Printf("V %d %x %x\n", depth, key, value)
		}
		return nil
	})
}

// open puts the plugins of a containerd together whose root that is.
func open(ctx context.Context, root string) (*metadata.DB, error) {
	blobs, err := local.NewStore(filepath.Join(root, "io.containerd.content.v1.content"))
	if err != nil {
		return nil, err
	}
	layers, err := overlay.NewSnapshotter(filepath.Join(root, "io.containerd.snapshotter.v1."+snapshotter))
	if err != nil {
		return nil, err
	}
	folder := filepath.Join(root, "io.containerd.metadata.v1.bolt")
	if err := os.MkdirAll(folder, 0o711); err != nil {
		return nil, err
	}
	db, err := bolt.Open(filepath.Join(folder, "meta.db"), 0o644, nil)
	if err != nil {
		return nil, err
	}
	all := metadata.NewDB(db, blobs, map[string]snapshots.Snapshotter{snapshotter: layers})
	return all, all.Init(ctx)
}

func baked(ctx context.Context, root string) error {
	db, err := open(ctx, root)
	if err != nil {
		return err
	}
	if _, err := db.GarbageCollect(ctx); err != nil {
		return err
	}
	all, err := metadata.NewImageStore(db).List(ctx)
	if err != nil {
		return err
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	for _, image := range all {
		labels, _ := json.Marshal(image.Labels)
		fmt.Printf("image %s %s %s %d %s\n", image.Name, image.Target.Digest, image.Target.MediaType, image.Target.Size, labels)
	}
	return eachBlob(ctx, db, func() error {
		for i, image := range all {
			if err := view(ctx, db, image.Target, image.Name, fmt.Sprintf("view-%d", i), root); err != nil {
				return err
			}
		}
		return nil
	})
}

// eachBlob reads all blobs that the store knows, and compares them with their digests.
func eachBlob(ctx context.Context, db *metadata.DB, then func() error) error {
	store := db.ContentStore()
	if err := store.Walk(ctx, func(info content.Info) error {
		bytes, err := content.ReadBlob(ctx, store, ocispec.Descriptor{Digest: info.Digest, Size: info.Size})
		if err != nil {
			return err
		}
		if digest.FromBytes(bytes) != info.Digest {
			return fmt.Errorf("%s: other content", info.Digest)
		}
		labels, _ := json.Marshal(info.Labels)
		fmt.Printf("blob %s %d %s\n", info.Digest, info.Size, labels)
		return nil
	}); err != nil {
		return err
	}
	return then()
}

func pulled(ctx context.Context, root, layout, name string) error {
	db, err := open(ctx, root)
	if err != nil {
		return err
	}
	var index ocispec.Index
	text, err := os.ReadFile(filepath.Join(layout, "index.json"))
	if err == nil {
		err = json.Unmarshal(text, &index)
	}
	if err != nil {
		return err
	}
	blobs, err := os.ReadDir(filepath.Join(layout, "blobs/sha256"))
	if err != nil {
		return err
	}
	store := db.ContentStore()
	for _, blob := range blobs {
		file, err := os.Open(filepath.Join(layout, "blobs/sha256", blob.Name()))
		if err != nil {
			return err
		}
		info, err := file.Stat()
		if err != nil {
			return err
		}
		descriptor := ocispec.Descriptor{Digest: digest.Digest("sha256:" + blob.Name()), Size: info.Size()}
		if err := content.WriteBlob(ctx, store, blob.Name(), file, descriptor); err != nil {
			return err
		}
		file.Close()
	}
	target := index.Manifests[0]
	manifest, err := images.Manifest(ctx, store, target, platform)
	if err != nil {
		return err
	}
	diffs, err := images.RootFS(ctx, store, manifest.Config)
	if err != nil {
		return err
	}
	layers := make([]rootfs.Layer, len(diffs))
	for i, diff := range diffs {
		layers[i] = rootfs.Layer{Diff: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: diff}, Blob: manifest.Layers[i]}
	}
	if _, err := rootfs.ApplyLayers(ctx, layers, db.Snapshotter(snapshotter), apply.NewFileSystemApplier(store)); err != nil {
		return err
	}
	return view(ctx, db, target, name, "view", root)
}

// view prints what a container of the image sees.
func view(ctx context.Context, db *metadata.DB, target ocispec.Descriptor, name, key, root string) error {
	manifest, err := images.Manifest(ctx, db.ContentStore(), target, platform)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	diffs, err := images.RootFS(ctx, db.ContentStore(), manifest.Config)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	chain := identity.ChainID(diffs)
	layers := db.Snapshotter(snapshotter)
	if _, err := layers.Usage(ctx, chain.String()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	// As for a container: something that is written above the layers.
	mounts, err := layers.Prepare(ctx, key, chain.String())
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	folder := filepath.Join(root, key)
	if err := os.Mkdir(folder, 0o700); err != nil {
		return err
	}
	if err := mount.All(mounts, folder); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer mount.UnmountAll(folder, 0)
	return filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if path == folder {
			return err
		}
		// A whiteout in a folder that no lower layer has is a name that cannot be looked up.
		line := "nothing"
		if err == nil {
			line, err = describe(path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			line = "nothing"
		} else if err != nil {
			return err
		}
		fmt.Printf("view %s %s %s\n", name, strings.TrimPrefix(path, folder), line)
		return nil
	})
}

// describe gives type, mode, owner, links, and what else can be seen of a file. Times of folders are those of unpacking.
func describe(path string) (string, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	stat := info.Sys().(*syscall.Stat_t)
	line := fmt.Sprintf("%o %d:%d", stat.Mode, stat.Uid, stat.Gid)
	if !info.IsDir() {
		line += fmt.Sprintf(" links %d time %d", stat.Nlink, stat.Mtim.Sec)
	}
	switch info.Mode() & fs.ModeType {
	case 0:
		file, err := os.Open(path)
		if err != nil {
			return "", err
		}
		defer file.Close()
		hash := sha256.New()
		if _, err := io.Copy(hash, file); err != nil {
			return "", err
		}
		line += fmt.Sprintf(" size %d sha256 %x", stat.Size, hash.Sum(nil))
	case fs.ModeSymlink:
		target, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		line += " to " + target
	case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
		line += fmt.Sprintf(" device %d:%d", unix.Major(stat.Rdev), unix.Minor(stat.Rdev))
	}
	names := make([]byte, 1<<16)
	n, err := unix.Llistxattr(path, names)
	if err != nil {
		return "", err
	}
	all := strings.FieldsFunc(string(names[:n]), func(r rune) bool { return r == 0 })
	sort.Strings(all)
	for _, name := range all {
		value := make([]byte, 1<<16)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return "", err
		}
		line += fmt.Sprintf(" %s=%x", name, value[:n])
	}
	return line, nil
}
