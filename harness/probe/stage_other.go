// SPDX-License-Identifier: Apache-2.0

//go:build !386 && !amd64 && !arm64

package probe

import "github.com/cilium/ebpf"

// Without the programs, [stageNeeds] are not met.
const stageProgStageBegins, stageProgStageEnds = "", ""

type stageSeries blockSeries

func loadStage() (*ebpf.CollectionSpec, error) { return nil, ErrUnavailable }

const targetProgHeld, targetProgReleased, targetProgStageBegins, targetProgStageEnds = "", "", "", ""

type targetSeries blockSeries

func loadTarget() (*ebpf.CollectionSpec, error) { return nil, ErrUnavailable }
