package report

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"lockstep/jepsen/history"
)

const (
	plotWidth, plotHeight      = 960.0, 320.0
	plotLeft, plotTop          = 60.0, 10.0
	plotRight, plotBottom      = 10.0, 30.0
	dotsMax                    = 20000 // more are thinned out
	latencyLowest, latencyHigh = 1e-4, 10.0
)

var colours = map[history.Outcome]string{history.OK: "#3a6fb0", history.Fail: "#d08a00", history.Info: "#c00000"}

type plot struct {
	b      strings.Builder
	length float64 // seconds
}

func (r *Run) newPlot() *plot {
	p := &plot{length: math.Max(1, float64(r.LoadEnd)/1e9+1)}
	fmt.Fprintf(&p.b, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" font-family="sans-serif" font-size="11">`+
		"\n", plotWidth, plotHeight)
	p.b.WriteString(`<rect width="100%" height="100%" fill="white"/>` + "\n")
	for i, e := range r.Effects {
		from, to := p.x(float64(e.Start)/1e9), p.x(float64(e.End)/1e9)
		fmt.Fprintf(&p.b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="#e08080" opacity="0.25"><title>%s</title></rect>`+
			"\n", from, plotTop, math.Max(1, to-from), plotHeight-plotTop-plotBottom, e.Name)
		fmt.Fprintf(&p.b, `<text x="%.1f" y="%.1f" fill="#803030">%s</text>`+"\n", from+1, plotTop+10+float64(i%3)*11, e.Name)
	}
	step := math.Max(1, math.Round(p.length/12))
	for t := 0.0; t <= p.length; t += step {
		fmt.Fprintf(&p.b, `<text x="%.1f" y="%.1f" text-anchor="middle">%.0f s</text>`+"\n", p.x(t), plotHeight-10, t)
	}
	return p
}

func (p *plot) x(seconds float64) float64 {
	return plotLeft + seconds/p.length*(plotWidth-plotLeft-plotRight)
}

func (p *plot) y(part float64) float64 {
	return plotTop + (1-part)*(plotHeight-plotTop-plotBottom)
}

func (p *plot) mark(part float64, text string) {
	fmt.Fprintf(&p.b, `<line x1="%.0f" x2="%.0f" y1="%.1f" y2="%.1f" stroke="#ddd"/><text x="%.0f" y="%.1f" text-anchor="end">%s</text>`+
		"\n", plotLeft, plotWidth-plotRight, p.y(part), p.y(part), plotLeft-4, p.y(part)+4, text)
}

func (p *plot) write(path string) error {
	p.b.WriteString("</svg>\n")
	return os.WriteFile(path, []byte(p.b.String()), 0o644)
}

func (r *Run) writePlots() error {
	if err := r.plotLatency(); err != nil {
		return err
	}
	return r.plotRate()
}

func latencyPart(seconds float64) float64 {
	seconds = math.Min(math.Max(seconds, latencyLowest), latencyHigh)
	return math.Log(seconds/latencyLowest) / math.Log(latencyHigh/latencyLowest)
}

func (r *Run) plotLatency() error {
	p := r.newPlot()
	for _, tick := range []struct {
		s    float64
		name string
	}{{1e-4, "0.1 ms"}, {1e-3, "1 ms"}, {1e-2, "10 ms"}, {0.1, "100 ms"}, {1, "1 s"}, {10, "10 s"}} {
		p.mark(latencyPart(tick.s), tick.name)
	}
	every := len(r.History.Ops)/dotsMax + 1
	for i := range r.History.Ops {
		op := &r.History.Ops[i]
		if op.Outcome == history.OK && i%every != 0 {
			continue
		}
		fmt.Fprintf(&p.b, `<circle cx="%.1f" cy="%.1f" r="1.2" fill="%s"/>`+"\n", p.x(float64(op.Invoke)/1e9),
			p.y(latencyPart(float64(op.Return-op.Invoke)/1e9)), colours[op.Outcome])
	}
	return p.write(filepath.Join(r.Dir, "latency.svg"))
}

func (r *Run) plotRate() error {
	p := r.newPlot()
	const slice = 0.25
	n := int(p.length/slice) + 1
	rates := map[history.Outcome][]float64{history.OK: make([]float64, n), history.Fail: make([]float64, n),
		history.Info: make([]float64, n)}
	highest := 1.0
	for i := range r.History.Ops {
		op := &r.History.Ops[i]
		if at := int(float64(op.Return) / 1e9 / slice); at < n {
			rates[op.Outcome][at] += 1 / slice
			highest = math.Max(highest, rates[op.Outcome][at])
		}
	}
	p.mark(0, "0")
	p.mark(0.5, fmt.Sprintf("%.0f/s", highest/2))
	p.mark(1, fmt.Sprintf("%.0f/s", highest))
	for _, outcome := range []history.Outcome{history.OK, history.Fail, history.Info} {
		var points strings.Builder
		for i, rate := range rates[outcome] {
			fmt.Fprintf(&points, "%.1f,%.1f ", p.x(float64(i)*slice), p.y(rate/highest))
		}
		fmt.Fprintf(&p.b, `<polyline points="%s" fill="none" stroke="%s"/>`+"\n", points.String(), colours[outcome])
	}
	return p.write(filepath.Join(r.Dir, "rate.svg"))
}

// Distribution plots, per series, the share of measurements (ms) that are at most x.
func Distribution(path string, series map[string][]float64) error {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" font-family="sans-serif" font-size="11">`+
		"\n"+`<rect width="100%%" height="100%%" fill="white"/>`+"\n", plotWidth, plotHeight)
	highest := 100.0
	names := make([]string, 0, len(series))
	for name, values := range series {
		names = append(names, name)
		sort.Float64s(values)
		highest = math.Max(highest, values[len(values)-1])
	}
	sort.Strings(names)
	highest = math.Ceil(highest/100) * 100
	x := func(v float64) float64 { return plotLeft + v/highest*(plotWidth-plotLeft-plotRight) }
	y := func(part float64) float64 { return plotTop + (1-part)*(plotHeight-plotTop-plotBottom) }
	for v := 0.0; v <= highest; v += 100 {
		fmt.Fprintf(&b, `<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke="#ddd"/><text x="%.1f" y="%.1f" text-anchor="middle">%.0f ms</text>`+
			"\n", x(v), x(v), plotTop, plotHeight-plotBottom, x(v), plotHeight-10, v)
	}
	for _, part := range []float64{0, 0.5, 1} {
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="end">%.0f %%</text>`+"\n", plotLeft-4, y(part)+4, part*100)
	}
	colour := []string{"#3a6fb0", "#c00000", "#d08a00"}
	for n, name := range names {
		points := fmt.Sprintf("%.1f,%.1f ", x(0), y(0))
		for i, v := range series[name] {
			low, high := float64(i)/float64(len(series[name])), float64(i+1)/float64(len(series[name]))
			points += fmt.Sprintf("%.1f,%.1f %.1f,%.1f ", x(v), y(low), x(v), y(high))
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", points, colour[n%3])
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" fill="%s">leader %s, n=%d</text>`+"\n", plotLeft+10, plotTop+15+float64(n)*15,
			colour[n%3], name, len(series[name]))
	}
	b.WriteString("</svg>\n")
	return os.WriteFile(path, []byte(b.String()), 0o644)
}
