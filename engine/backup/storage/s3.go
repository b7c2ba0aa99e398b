// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// S3 keeps objects in a bucket of an S3-compatible object store, which is to list what
// was put before, as Amazon's does since 2020. An object is put by one request, so it is
// whole or not there. Failures are not tried again: see [Retry].
type S3 struct {
	client *minio.Client
	bucket string
	prefix string // empty, or ends with a slash
}

// S3Place says where a bucket is.
type S3Place struct {
	Endpoint string // host and port
	Insecure bool   // without TLS
	Region   string // empty: asked for
	Bucket   string
	Prefix   string // of the names; empty, or ends with a slash
	// Stall is how long an answer of the store may take to begin; zero: a minute.
	Stall time.Duration
}

// The schemes of the places of buckets.
const (
	s3Scheme = "s3://"
	s3Long   = "s3:"
)

// IsS3 reports whether text is to be the place of a bucket.
func IsS3(text string) bool { return strings.HasPrefix(text, s3Long) }

// ParseS3 reads the place of a bucket: s3://BUCKET[/PREFIX] at the endpoint that the
// environment's AWS_ENDPOINT_URL names, or at Amazon's, or s3:http[s]://HOST[:PORT]/BUCKET[/PREFIX].
func ParseS3(text string) (p S3Place, err error) {
	p.Region = os.Getenv("AWS_REGION")
	where := os.Getenv("AWS_ENDPOINT_URL")
	if where == "" {
		where = "https://s3.amazonaws.com"
	}
	rest, short := strings.CutPrefix(text, s3Scheme)
	if short {
		where = strings.TrimSuffix(where, "/") + "/" + rest
	} else {
		where = strings.TrimPrefix(text, s3Long)
	}
	u, err := url.Parse(where)
	bad := fmt.Errorf("%q is not the place of a bucket: want s3://BUCKET[/PREFIX] or s3:https://HOST/BUCKET[/PREFIX]", text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return p, bad
	}
	p.Endpoint, p.Insecure = u.Host, u.Scheme == "http"
	path := strings.Trim(u.Path, "/")
	p.Bucket, p.Prefix, _ = strings.Cut(path, "/")
	if p.Prefix != "" {
		p.Prefix += "/"
	}
	if p.Bucket == "" || p.Prefix != "" && checkName(strings.TrimSuffix(p.Prefix, "/")) != nil {
		return p, bad
	}
	return p, nil
}

const (
	defaultStall = time.Minute
	// requestTime is how long any request may take in all: objects of 16 MiB go over a
	// line of 160 kbit/s.
	requestTime = 15 * time.Minute
)

// OpenS3 returns the storage in a bucket, which is to exist. The credentials are those of
// the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN), of
// ~/.aws/credentials, or of the machine's role.
func OpenS3(p S3Place) (*S3, error) {
	t, err := minio.DefaultTransport(!p.Insecure)
	if err != nil {
		return nil, err
	}
	if t.ResponseHeaderTimeout = p.Stall; p.Stall == 0 {
		t.ResponseHeaderTimeout = defaultStall
	}
	creds := credentials.NewChainCredentials([]credentials.Provider{
		&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{},
	})
	c, err := minio.New(p.Endpoint, &minio.Options{Creds: creds, Secure: !p.Insecure, Region: p.Region, Transport: t, MaxRetries: 1})
	if err != nil {
		return nil, fmt.Errorf("the object store at %s: %w", p.Endpoint, err)
	}
	return &S3{c, p.Bucket, p.Prefix}, nil
}

// explain turns what the store answers into errors that callers know.
func (s *S3) explain(ctx context.Context, doing, name string, err error) error {
	if err == nil {
		return nil
	}
	var e minio.ErrorResponse
	if errors.As(err, &e) {
		switch {
		case e.Code == "NoSuchKey":
			return absent(name)
		case e.Code == "NoSuchBucket":
			return fmt.Errorf("%w: %s", ErrNoBucket, s.bucket)
		case e.StatusCode == http.StatusForbidden || e.StatusCode == http.StatusUnauthorized:
			return fmt.Errorf("%s %s in bucket %s: %w: %w", doing, name, s.bucket, ErrDenied, err)
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%s %s in bucket %s: %w", doing, name, s.bucket, err)
}

// Put implements Storage.
func (s *S3) Put(ctx context.Context, name string, content []byte) error {
	if err := checkName(name); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	_, err := s.client.PutObject(ctx, s.bucket, s.prefix+name, bytes.NewReader(content), int64(len(content)),
		minio.PutObjectOptions{ContentType: "application/octet-stream", DisableMultipart: true})
	return s.explain(ctx, "putting", name, err)
}

// ReadAt implements Storage.
func (s *S3) ReadAt(ctx context.Context, name string, p []byte, off int64) (int, error) {
	if err := checkName(name); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	var o minio.GetObjectOptions
	if err := o.SetRange(off, off+int64(len(p))-1); err != nil {
		return 0, err
	}
	body, info, _, err := minio.Core{Client: s.client}.GetObject(ctx, s.bucket, s.prefix+name, o)
	if minio.ToErrorResponse(err).StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return 0, io.EOF
	}
	if err != nil {
		return 0, s.explain(ctx, "reading", name, err)
	}
	defer body.Close()
	n, err := io.ReadFull(body, p)
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		if int64(n) == info.Size { // all that was announced: the object ends here
			return n, io.EOF
		}
		err = fmt.Errorf("the answer ended after %d of %d bytes", n, info.Size)
	case err == nil:
		return n, nil
	}
	return 0, s.explain(ctx, "reading", name, err)
}

// List implements Storage.
func (s *S3) List(ctx context.Context, prefix string) ([]Object, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // of the listing under way
	var list []Object
	for o := range s.client.ListObjects(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true}) {
		if o.Err != nil {
			return nil, s.explain(ctx, "listing", prefix, o.Err)
		}
		name := strings.TrimPrefix(o.Key, s.prefix)
		if checkName(name) == nil {
			list = append(list, Object{name, o.Size})
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return list, nil
}

// Delete implements Storage.
func (s *S3) Delete(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	err := s.client.RemoveObject(ctx, s.bucket, s.prefix+name, minio.RemoveObjectOptions{})
	if err = s.explain(ctx, "deleting", name, err); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
