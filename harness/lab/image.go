// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// rootPackages are what the guest has besides the essential packages.
var rootPackages = []string{
	"mount", "kmod", "udev", "procps", "iproute2", "iputils-ping", "util-linux", "busybox-static",
	"dmsetup", "lvm2", "thin-provisioning-tools", "mdadm", "ndctl",
	"e2fsprogs", "xfsprogs", "btrfs-progs", "attr", "acl", "fuse3",
	"fio", "blktrace", "strace", "bpftool", "libaio1", "liburing2", "python3-minimal", "bc", "gawk", "file", "bsdextrautils", "perl", "psmisc", "quota", "uuid-runtime",
	"nbd-client", "nbd-server", "nfs-kernel-server", "nfs-common", "samba", "smbclient", "cifs-utils",
	"krb5-kdc", "krb5-admin-server", "krb5-user", "openssh-server", "openssh-client",
}

const rootSize = "1500M"

// Root returns the image of the root file system, built if the cache has none of
// these packages.
func (c *Cache) Root(ctx context.Context) (string, error) {
	files, a, err := c.resolved(ctx, "root", rootPackages)
	if err != nil {
		return "", err
	}
	dir, err := c.build("root", slices.Concat(rootOptions(), []string{rootSize}, files), func(dir string) error {
		return makeRoot(ctx, filepath.Join(a.dir, "sources.list"), dir)
	})
	return filepath.Join(dir, "root.ext4"), err
}

// rootOptions are what mmdebstrap is called with, but for mode and places.
func rootOptions() []string {
	options := []string{"--variant=apt", "--quiet", "--include=" + strings.Join(rootPackages, ","),
		"--aptopt=APT::Install-Recommends \"false\"", "--aptopt=Acquire::Retries \"3\"", "--dpkgopt=force-unsafe-io"}
	for _, p := range []string{"man", "doc", "locale", "info"} {
		options = append(options, "--dpkgopt=path-exclude=/usr/share/"+p+"/*")
	}
	return options
}

// makeRoot runs mmdebstrap. Root gets a directory of it; others get an archive,
// from which fakeroot makes the image with the right owners.
func makeRoot(ctx context.Context, sourcesList, dir string) error {
	args := rootOptions()
	image := filepath.Join(dir, "root.ext4")
	if os.Geteuid() == 0 {
		root := filepath.Join(dir, "root")
		args = append(args, "--mode=root", "--format=directory", suite, root, sourcesList)
		if _, err := command(ctx, dir, "mmdebstrap", args...); err != nil {
			return err
		}
		if err := makeExt4(ctx, image, root, rootSize); err != nil {
			return err
		}
		return os.RemoveAll(root)
	}
	args = slices.Concat(args, []string{"--mode=unshare", "--format=tar", suite, filepath.Join(dir, "root.tar"), sourcesList})
	if _, err := command(ctx, dir, "mmdebstrap", args...); err != nil {
		return err
	}
	const unpack = `mkdir root && tar -xf root.tar --exclude=./dev/* -C root &&
		PATH=$PATH:/usr/sbin:/sbin mkfs.ext4 -q -F -d root -O ^has_journal -m 0 -L lab root.ext4 ` + rootSize + ` && rm -rf root root.tar`
	_, err := command(ctx, dir, "fakeroot", "sh", "-c", unpack)
	return err
}
