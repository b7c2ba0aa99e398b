// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/klauspost/compress/zstd"

	"zumastor.org/zumastor/results"
)

// Bounds on what is read back, so that a damaged or hostile object costs little.
const (
	maxObject   = 256 << 20
	maxUnpacked = 512 << 20
	maxFiles    = 200
	headerFile  = "trial.json"
)

// pack returns a collected trial: a tar archive of trial.json and the run's record,
// compressed with zstd.
func pack(d Trial, dir string) ([]byte, error) {
	names, err := results.RecordFiles(dir)
	if err != nil {
		return nil, err
	}
	contents := map[string][]byte{}
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		contents[name] = content
		d.Files[name] = File{int64(len(content)), sum(content)}
	}
	if contents[headerFile], err = json.MarshalIndent(d, "", "  "); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	t := tar.NewWriter(z)
	for _, name := range slices.Concat([]string{headerFile}, names) {
		err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(contents[name])), Format: tar.FormatUSTAR})
		if err == nil {
			_, err = t.Write(contents[name])
		}
		if err != nil {
			return nil, fmt.Errorf("packing %s: %w", name, err)
		}
	}
	if err := errors.Join(t.Close(), z.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func sum(content []byte) string {
	s := sha256.Sum256(content)
	return hex.EncodeToString(s[:])
}

// unpack returns a collected trial and its files. They are those that the trial lists,
// with the sums that it gives, and no others. Errors wrap [ErrCorrupt].
func unpack(object []byte) (d Trial, files map[string][]byte, err error) {
	bad := func(format string, args ...any) (Trial, map[string][]byte, error) {
		return Trial{}, nil, fmt.Errorf("%w: %w", ErrCorrupt, fmt.Errorf(format, args...))
	}
	files, err = untar(object)
	if err != nil {
		return bad("%w", err)
	}
	in := json.NewDecoder(bytes.NewReader(files[headerFile]))
	in.DisallowUnknownFields()
	if err := in.Decode(&d); err != nil {
		return bad("%s: %w", headerFile, err)
	}
	delete(files, headerFile)
	if d.Format != formatVersion {
		return bad("format %d, this program reads %d", d.Format, formatVersion)
	}
	for name, f := range d.Files {
		content, ok := files[name]
		if !ok || !results.IsRecordFile(name) {
			return bad("%s is missing, or no file of a run", name)
		}
		if int64(len(content)) != f.Size || sum(content) != f.SHA256 {
			return bad("%s has another sum than when it was collected", name)
		}
	}
	if len(files) != len(d.Files) {
		return bad("%d files, it lists %d", len(files), len(d.Files))
	}
	return d, files, nil
}

// untar reads all files of an archive.
func untar(object []byte) (map[string][]byte, error) {
	z, err := zstd.NewReader(bytes.NewReader(object), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxUnpacked))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	bounded := io.LimitReader(z, maxUnpacked)
	files := map[string][]byte{}
	for t := tar.NewReader(bounded); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, bounded) // to the sum at the end
			return files, err
		}
		if err != nil {
			return nil, err
		}
		if _, twice := files[h.Name]; twice || h.Typeflag != tar.TypeReg || len(files) == maxFiles {
			return nil, fmt.Errorf("%q is there twice, is no file, or is one too many", h.Name)
		}
		if files[h.Name], err = io.ReadAll(t); err != nil {
			return nil, fmt.Errorf("%q: %w", h.Name, err)
		}
	}
}
