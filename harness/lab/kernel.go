// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// kernels are the metapackages of each version of the kernel.
var kernels = map[string][]string{
	"6.1":  {"linux-image-amd64", "linux-headers-amd64"},
	"6.12": {"linux-image-6.12-amd64", "linux-headers-6.12-amd64"},
}

// Versions are the kernels that there are, the primary one first.
var Versions = []string{"6.12", "6.1"}

// kernelRecipe changes when a kernel is to be unpacked again for another reason
// than a new package.
const kernelRecipe = "3"

// Kernel is a kernel in the cache.
type Kernel struct {
	Version string // such as 6.12, or debug
	Release string // what uname -r says
	Image   string // the bzImage
	Initrd  string
	Modules string // ext4 image of /lib/modules
	Headers string // KDIR to build modules
}

// Kernel returns the kernel of a version, fetched and unpacked if it is not in
// the cache.
func (c *Cache) Kernel(ctx context.Context, version string) (*Kernel, error) {
	if version == Debug {
		return c.debugKernel(ctx, false)
	}
	meta, ok := kernels[version]
	if !ok {
		return nil, fmt.Errorf("no kernel %q: there are %s and %s", version, strings.Join(Versions, ", "), Debug)
	}
	files, a, err := c.resolved(ctx, "kernel-"+version, append(slices.Clone(meta), "busybox-static"))
	if err != nil {
		return nil, err
	}
	files = slices.DeleteFunc(files, func(f string) bool {
		return !strings.HasPrefix(f, "linux-") && !strings.HasPrefix(f, "busybox-static_")
	})
	dir, err := c.build("kernel-"+version, append([]string{kernelRecipe}, files...), func(dir string) error {
		return makeKernel(ctx, a, files, dir)
	})
	if err != nil {
		return nil, err
	}
	k, err := c.openKernel(ctx, version, dir)
	if err == nil {
		k.Headers = filepath.Join(dir, "root/usr/src/linux-headers-"+k.Release)
	}
	return k, err
}

// openKernel returns the kernel that was made in dir, but for its headers.
func (c *Cache) openKernel(ctx context.Context, version, dir string) (*Kernel, error) {
	k := &Kernel{Version: version, Image: filepath.Join(dir, "vmlinuz"), Modules: filepath.Join(dir, "modules.ext4")}
	release, err := os.ReadFile(filepath.Join(dir, "release"))
	if err != nil {
		return nil, err
	}
	k.Release = string(release)
	k.Initrd, err = c.initrd(ctx, k.Version, dir, k.Release)
	return k, err
}

// makeKernel unpacks the packages in dir/root, which stays for the headers, and
// makes an image of the modules.
func makeKernel(ctx context.Context, a *archive, files []string, dir string) error {
	root := filepath.Join(dir, "root")
	if err := a.extract(ctx, files, root); err != nil {
		return err
	}
	images, err := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	if err != nil {
		return err
	}
	if len(images) != 1 {
		return fmt.Errorf("the packages hold %d kernels, not one: %v", len(images), files)
	}
	release := strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-")
	if err := os.WriteFile(filepath.Join(dir, "release"), []byte(release), 0o644); err != nil {
		return err
	}
	if err := os.Rename(images[0], filepath.Join(dir, "vmlinuz")); err != nil {
		return err
	}
	if _, err := command(ctx, dir, "depmod", "-b", root, release); err != nil {
		return err
	}
	if err := relocateHeaders(root, strings.TrimSuffix(root, ".part/root")+"/root", release); err != nil {
		return err
	}
	// 6.1's modules take 400 MB; holes cost nothing.
	return makeExt4(ctx, filepath.Join(dir, "modules.ext4"), filepath.Join(root, "lib/modules"), "800M")
}

// relocateHeaders makes the build directory of the headers work from where it
// will be, instead of from /usr/src.
func relocateHeaders(root, final, release string) error {
	name := filepath.Join(root, "usr/src/linux-headers-"+release, "Makefile")
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	moved := strings.ReplaceAll(string(text), "/usr/src/", final+"/usr/src/")
	return os.WriteFile(name, []byte(moved), 0o644)
}

// makeExt4 makes a file system image with the content of a directory.
func makeExt4(ctx context.Context, image, dir, size string) error {
	_, err := command(ctx, filepath.Dir(image), "mkfs.ext4", "-q", "-F", "-d", dir, "-O", "^has_journal", "-m", "0", "-L", "lab", image, size)
	return err
}
