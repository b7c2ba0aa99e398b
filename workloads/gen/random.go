// SPDX-License-Identifier: Apache-2.0

package gen

import (
	"math"
	"math/bits"
)

// Note: math/rand/v2 promises stable sources but not stable methods on them.
// Recorded experiments must not change with the toolchain, hence the few lines
// below.

// rng is SplitMix64: a counter put through a mixing function.
type rng uint64

// golden is the odd number nearest to 2^64 divided by the golden ratio.
const golden = 0x9e3779b97f4a7c15

// Streams drawn from one seed that must not be correlated.
const (
	streamKinds = iota + 1
	streamPlaces
	streamRounds
)

func newRNG(seed, stream uint64) rng { return rng(mix(seed + stream*golden)) }

// mix is the finaliser of SplitMix64: a bijection in which every input bit
// affects every output bit.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (r *rng) uint64() uint64 {
	*r += golden
	return mix(uint64(*r))
}

// below returns a number from 0 to n-1; its bias, n/2^64, is not corrected.
func (r *rng) below(n uint64) uint64 {
	hi, _ := bits.Mul64(r.uint64(), n)
	return hi
}

// unit returns a number in [0, 1).
func (r *rng) unit() float64 { return float64(r.uint64()>>11) / (1 << 53) }

// Permutation is a pseudo-random bijection of 0..n-1 that takes no memory: a
// Feistel network over the next even power of two, walked until it lands within.
type Permutation struct {
	n    uint64
	half uint // bits in each half
	keys [rounds]uint64
}

const rounds = 6

// NewPermutation returns the permutation of 0..n-1 that seed selects; n must not
// be zero nor above 2^62.
func NewPermutation(seed, n uint64) Permutation {
	p := Permutation{n: n, half: max(1, uint(bits.Len64(n-1)+1)/2)}
	r := newRNG(seed, streamRounds)
	for i := range p.keys {
		p.keys[i] = r.uint64()
	}
	return p
}

// At returns the i-th member. i must be below n.
func (p Permutation) At(i uint64) uint64 {
	mask := uint64(1)<<p.half - 1
	for {
		left, right := i>>p.half, i&mask
		for _, key := range p.keys {
			left, right = right, left^mix(right^key)&mask
		}
		// The domain is less than four times n, so few steps are walked; and
		// the walk ends since a bijection leads back to where it began.
		if i = left<<p.half | right; i < p.n {
			return i
		}
	}
}

// zipf draws ranks by rejection-inversion (Hörmann and Derflinger, 1996), which
// takes neither tables nor the sum over all ranks, for any positive exponent.
type zipf struct {
	n, theta, first, last, squeeze float64
}

func newZipf(n uint64, theta float64) zipf {
	z := zipf{n: float64(n), theta: theta}
	z.first = z.integral(1.5) - 1
	z.last = z.integral(z.n + 0.5)
	z.squeeze = 2 - z.inverse(z.integral(2.5)-math.Pow(2, -theta))
	return z
}

// rank returns a number from 0 to n-1; rank k has weight 1/(k+1)^theta.
func (z zipf) rank(r *rng) uint64 {
	for {
		u := z.last + r.unit()*(z.first-z.last)
		x := z.inverse(u)
		k := min(max(math.Round(x), 1), z.n)
		if k-x <= z.squeeze || u >= z.integral(k+0.5)-math.Pow(k, -z.theta) {
			return uint64(k) - 1
		}
	}
}

// integral is that of x^-theta, from 1 to x.
func (z zipf) integral(x float64) float64 {
	log := math.Log(x)
	return expm1Ratio((1-z.theta)*log) * log
}

// inverse is the inverse function of integral.
func (z zipf) inverse(y float64) float64 {
	t := max(y*(1-z.theta), -1)
	return math.Exp(log1pRatio(t) * y)
}

// expm1Ratio is (e^x - 1) / x, continued at zero.
func expm1Ratio(x float64) float64 {
	if math.Abs(x) > 1e-8 {
		return math.Expm1(x) / x
	}
	return 1 + x/2
}

// log1pRatio is log(1+x) / x, continued at zero.
func log1pRatio(x float64) float64 {
	if math.Abs(x) > 1e-8 {
		return math.Log1p(x) / x
	}
	return 1 - x/2
}
