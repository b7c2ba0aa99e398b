// SPDX-License-Identifier: Apache-2.0

package lab

import (
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
	"fio", "blktrace", "strace", "bpftool", "libaio1", "python3-minimal", "bc", "gawk", "file",
	"nbd-client", "nbd-server", "nfs-kernel-server", "nfs-common", "samba", "smbclient", "cifs-utils",
	"krb5-kdc", "krb5-admin-server", "krb5-user", "openssh-server", "openssh-client",
}

// rootRecipe changes when the image is to be built again for another reason than
// packages.
const rootRecipe = "2"

// Root returns the image of the root file system, built if the cache has none of
// these packages.
func (c *Cache) Root() (string, error) {
	files, a, err := c.resolved("root", rootPackages)
	if err != nil {
		return "", err
	}
	dir, err := c.build("root", append([]string{rootRecipe}, files...), func(dir string) error {
		return makeRoot(filepath.Join(a.dir, "sources.list"), dir)
	})
	return filepath.Join(dir, "root.ext4"), err
}

// makeRoot runs mmdebstrap. Root gets a directory of it; others get an archive,
// from which fakeroot makes the image with the right owners.
func makeRoot(sourcesList, dir string) error {
	args := []string{"--variant=apt", "--quiet", "--include=" + strings.Join(rootPackages, ","),
		"--aptopt=APT::Install-Recommends \"false\"", "--aptopt=Acquire::Retries \"3\"", "--dpkgopt=force-unsafe-io"}
	for _, p := range []string{"man", "doc", "locale", "info"} {
		args = append(args, "--dpkgopt=path-exclude=/usr/share/"+p+"/*")
	}
	image := filepath.Join(dir, "root.ext4")
	const size = "1500M"
	if os.Geteuid() == 0 {
		root := filepath.Join(dir, "root")
		args = append(args, "--mode=root", "--format=directory", suite, root, sourcesList)
		if _, err := command(dir, "mmdebstrap", args...); err != nil {
			return err
		}
		if err := makeExt4(image, root, size); err != nil {
			return err
		}
		return os.RemoveAll(root)
	}
	args = slices.Concat(args, []string{"--mode=unshare", "--format=tar", suite, filepath.Join(dir, "root.tar"), sourcesList})
	if _, err := command(dir, "mmdebstrap", args...); err != nil {
		return err
	}
	const unpack = `mkdir root && tar -xf root.tar --exclude=./dev/* -C root &&
		PATH=$PATH:/usr/sbin:/sbin mkfs.ext4 -q -F -d root -O ^has_journal -m 0 -L lab root.ext4 ` + size + ` && rm -rf root root.tar`
	_, err := command(dir, "fakeroot", "sh", "-c", unpack)
	return err
}
