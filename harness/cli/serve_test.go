// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/harness/cli"
)

func TestServe(t *testing.T) {
	root := t.TempDir()
	comparable(t, root, "one", "X", 100, 101, 102)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- cli.Main(ctx, []string{"--results", root, "serve", "one"}, strings.NewReader(""), w, w)
	}()
	url, err := bufio.NewReader(r).ReadString('\n')
	require.NoError(t, err)
	require.Regexp(t, `^http://127\.0\.0\.1:\d+/run/one\n$`, url)
	resp, err := http.Get(strings.TrimSpace(url))
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.True(t, strings.Contains(string(body), "run one"))
	cancel()
	require.Equal(t, cli.ExitOK, <-code)
}

func TestServeOnLoopbackOnly(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", ":0", "192.0.2.1:80"} {
		code, _, errs := zbench(t, "--results", t.TempDir(), "serve", "--listen", address)
		require.Equal(t, cli.ExitUsage, code)
		require.Contains(t, errs, "this machine only")
	}
}
