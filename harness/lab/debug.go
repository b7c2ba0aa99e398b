// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Debug is the version of the kernel that is compiled with KASAN, lockdep and
// fault injection.
const Debug = "debug"

// debugConfig is what it has on top of tinyconfig.
//
//go:embed debug.config
var debugConfig string

var debugPackages = []string{"linux-source-6.12", "busybox-static"}

// ErrNotBuilt is wrapped when the debug kernel is asked for before it was built.
var ErrNotBuilt = errors.New("the debug kernel has not been built: make lab-debug-kernel")

// debugKernel returns the debug kernel. It compiles it if that is asked for,
// which takes ten minutes or some.
func (c *Cache) debugKernel(ctx context.Context, compile bool) (*Kernel, error) {
	if !compile && !c.knows("kernel-debug", debugPackages) {
		return nil, ErrNotBuilt
	}
	files, a, err := c.resolved(ctx, "kernel-debug", debugPackages)
	if err != nil {
		return nil, err
	}
	files = slices.DeleteFunc(files, func(f string) bool {
		return !strings.HasPrefix(f, "linux-source-") && !strings.HasPrefix(f, "busybox-static_")
	})
	inputs := append([]string{debugConfig}, files...)
	// Builds of the kernel know their own place, so that this one is never renamed.
	work := filepath.Join(c.Dir, "debug-build-"+key(inputs...))
	dir := c.path("kernel-debug", inputs)
	if compile {
		_, err = c.build("kernel-debug", inputs, func(dir string) error { return makeDebugKernel(ctx, a, files, work, dir) })
	} else if _, serr := os.Stat(dir); serr != nil {
		err = ErrNotBuilt
	}
	if err != nil {
		return nil, err
	}
	k, err := c.openKernel(ctx, Debug, dir)
	if err == nil {
		k.Headers = filepath.Join(work, "build")
	}
	return k, err
}

// HasDebug reports whether the debug kernel can be booted.
func (c *Cache) HasDebug() bool {
	quiet := &Cache{Dir: c.Dir}
	_, err := quiet.debugKernel(context.Background(), false)
	return err == nil
}

// BuildDebug compiles the debug kernel if the cache does not have it.
func (c *Cache) BuildDebug(ctx context.Context) (*Kernel, error) { return c.debugKernel(ctx, true) }

// makeDebugKernel compiles in work, and leaves in dir what a machine boots.
func makeDebugKernel(ctx context.Context, a *archive, files []string, work, dir string) error {
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	source, build, root := filepath.Join(work, "source"), filepath.Join(work, "build"), filepath.Join(dir, "root")
	for _, d := range []string{source, build, root} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := a.extract(ctx, files, root); err != nil {
		return err
	}
	tarballs, err := filepath.Glob(filepath.Join(root, "usr/src/linux-source-*.tar.xz"))
	if err != nil || len(tarballs) != 1 {
		return errors.Join(err, fmt.Errorf("the package of the kernel's source holds %d archives", len(tarballs)))
	}
	if _, err := command(ctx, dir, "tar", "-xf", tarballs[0], "-C", source, "--strip-components=1"); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(root, "usr")); err != nil {
		return err
	}
	if err := configure(ctx, source, build); err != nil {
		return err
	}
	return compileKernel(ctx, source, build, dir)
}

// configure makes the configuration, and checks that it has all that is asked.
func configure(ctx context.Context, source, build string) error {
	fragment := filepath.Join(build, "lab.config")
	if err := os.WriteFile(fragment, []byte(debugConfig), 0o644); err != nil {
		return err
	}
	if _, err := command(ctx, source, "make", "O="+build, "tinyconfig"); err != nil {
		return err
	}
	merge := filepath.Join(source, "scripts/kconfig/merge_config.sh")
	if _, err := command(ctx, build, "sh", merge, "-m", "-O", build, filepath.Join(build, ".config"), fragment); err != nil {
		return err
	}
	if _, err := command(ctx, source, "make", "O="+build, "olddefconfig"); err != nil {
		return err
	}
	config, err := os.ReadFile(filepath.Join(build, ".config"))
	if err != nil {
		return err
	}
	if lost := lostLines(debugConfig, string(config)); len(lost) > 0 {
		return fmt.Errorf("the kernel's configuration lacks %s", strings.Join(lost, ", "))
	}
	return nil
}

// lostLines returns the settings of want that config has not.
func lostLines(want, config string) []string {
	has := map[string]bool{}
	for line := range strings.Lines(config) {
		has[strings.TrimSpace(line)] = true
	}
	var lost []string
	for line := range strings.Lines(want) {
		line = strings.TrimSpace(line)
		name, unset := strings.CutSuffix(strings.TrimPrefix(line, "# "), " is not set")
		switch {
		case has[line] || !strings.HasPrefix(strings.TrimPrefix(line, "# "), "CONFIG_"):
		case unset && !strings.Contains(config, "\n"+name+"="):
		default:
			lost = append(lost, line)
		}
	}
	return lost
}

func compileKernel(ctx context.Context, source, build, dir string) error {
	root := filepath.Join(dir, "root")
	if _, err := command(ctx, source, "make", "O="+build, fmt.Sprintf("-j%d", runtime.NumCPU()), "bzImage", "modules"); err != nil {
		return err
	}
	if _, err := command(ctx, source, "make", "O="+build, "INSTALL_MOD_PATH="+root, "modules_install"); err != nil {
		return err
	}
	release, err := os.ReadFile(filepath.Join(build, "include/config/kernel.release"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "release"), []byte(strings.TrimSpace(string(release))), 0o644); err != nil {
		return err
	}
	if err := copyChanged(filepath.Join(build, "arch/x86/boot/bzImage"), filepath.Join(dir, "vmlinuz")); err != nil {
		return err
	}
	return makeExt4(ctx, filepath.Join(dir, "modules.ext4"), filepath.Join(root, "lib/modules"), "200M")
}
