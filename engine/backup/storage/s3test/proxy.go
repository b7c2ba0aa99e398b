// SPDX-License-Identifier: Apache-2.0

package s3test

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Fault is how a request fails.
type Fault int

// The faults.
const (
	None      Fault = iota
	Refuse          // 503, nothing is done
	Fail            // 500, nothing is done
	Lose            // it is done, and the connection is closed without an answer
	CutAnswer       // it is done, and half of the answer's body arrives
	Hang            // nothing is done, and no answer comes
	CutBody         // half of the request's body arrives at the server
	faults
)

// Faults is how many faults there are, None among them.
const Faults = int(faults)

// Proxy stands before a server and makes its requests fail.
type Proxy struct {
	Address string
	mu      sync.Mutex
	choose  func(*http.Request) Fault
	failed  map[Fault]int
}

// Proxy returns a proxy of the server which asks choose, one request at a time, how each
// request is to fail.
func (s *Server) Proxy(t *testing.T, choose func(*http.Request) Fault) *Proxy {
	p := &Proxy{choose: choose, failed: make(map[Fault]int)}
	to := &url.URL{Scheme: "http", Host: s.Address}
	behind := &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host }, // the signature has the host
		ModifyResponse: p.answer,
		ErrorLog:       log.New(io.Discard, "", 0),
		ErrorHandler:   func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(w, r, behind) }))
	front.Config.ErrorLog = log.New(io.Discard, "", 0)
	front.Start()
	t.Cleanup(front.Close)
	p.Address = front.Listener.Addr().String()
	return p
}

// Failed returns how many requests failed so.
func (p *Proxy) Failed(f Fault) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed[f]
}

const faultHeader = "X-Test-Fault"

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request, behind http.Handler) {
	p.mu.Lock()
	f := p.choose(r)
	p.failed[f]++
	p.mu.Unlock()
	switch f {
	case Refuse:
		http.Error(w, "slow down", http.StatusServiceUnavailable)
		return
	case Fail:
		http.Error(w, "broken", http.StatusInternalServerError)
		return
	case Hang:
		_, _ = io.Copy(io.Discard, r.Body) // a client begins to wait when it has sent all
		select {
		case <-r.Context().Done():
		case <-time.After(20 * time.Second): // a client that waits for ever
		}
		panic(http.ErrAbortHandler)
	case CutBody:
		content, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(content[:len(content)/2])) // the length stays what was announced
		if len(content) == 0 {
			panic(http.ErrAbortHandler)
		}
	}
	r.Header.Set(faultHeader, strconv.Itoa(int(f)))
	behind.ServeHTTP(w, r)
}

// answer spoils the server's answer.
func (p *Proxy) answer(r *http.Response) error {
	f, _ := strconv.Atoi(r.Request.Header.Get(faultHeader))
	switch Fault(f) {
	case Lose:
		panic(http.ErrAbortHandler)
	case CutAnswer:
		content, err := io.ReadAll(r.Body)
		if err != nil || len(content) == 0 {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(content[:len(content)/2]), broken{}))
	}
	return nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
