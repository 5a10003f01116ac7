// Go's micro benchmarks: the argument names one, its number goes to standard output.
package main

import (
	"fmt"
	"os"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	passes  = 7
	steps   = 200_000
	many    = 100_000
	million = 1_000_000
	far     = 60 * time.Second
)

func main() {
	benchmarks := map[string]func() float64{
		"spawn-join":   func() float64 { return perStep(steps, spawnJoin) },
		"spawn-fresh":  func() float64 { return suspendMany(many) },
		"spawn-pooled": func() float64 { suspendMany(many); return suspendMany(many) },
		"yield":        func() float64 { return perStep(2*steps, yieldPair) },
		"park":         func() float64 { return perStep(2*steps, pingPong) },
		"channel":      func() float64 { return perStep(steps, pingPong) },
		"mutex":        func() float64 { return perStep(2*steps, handOver) },
		"timeout":      func() float64 { return perStep(steps, armCancel) },
		"timer":        armMillion,
		"sleeps":       func() float64 { return sleepMany(million) },
		"memory-100k":  func() float64 { return memory(many) },
		"memory-1m":    func() float64 { return memory(million) },
	}
	if run, ok := benchmarks[os.Args[1]]; ok {
		fmt.Println(run())
	} else {
		fmt.Println("none")
	}
}

// The median over the passes.
func perStep(steps int, pass func() time.Duration) float64 {
	var values []float64
	for i := 0; i < passes; i++ {
		values = append(values, float64(pass().Nanoseconds())/float64(steps))
	}
	sort.Float64s(values)
	return values[passes/2]
}

// A goroutine cannot be joined; a channel says that it is over.
func spawnJoin() time.Duration {
	start := time.Now()
	for i := 0; i < steps; i++ {
		done := make(chan int, 1)
		go func() { done <- 1 }()
		<-done
	}
	return time.Since(start)
}

func suspendMany(count int) float64 {
	var begun, over sync.WaitGroup
	begun.Add(count)
	over.Add(count)
	release := make(chan struct{})
	start := time.Now()
	for i := 0; i < count; i++ {
		go func() {
			begun.Done()
			<-release
			over.Done()
		}()
	}
	begun.Wait()
	elapsed := time.Since(start)
	close(release)
	over.Wait()
	return float64(elapsed.Nanoseconds()) / float64(count)
}

func memory(count int) float64 {
	var begun sync.WaitGroup
	begun.Add(count)
	release := make(chan struct{})
	before := footprint()
	for i := 0; i < count; i++ {
		go func() {
			begun.Done()
			<-release
		}()
	}
	begun.Wait()
	return float64(footprint()-before) / float64(count)
}

// Resident memory of this process, in bytes.
func footprint() int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		panic(err)
	}
	total := 0
	for _, line := range strings.Split(string(status), "\n") {
		fields := strings.Fields(line)
		if len(fields) > 1 && fields[0] == "VmRSS:" {
			kibibytes, _ := strconv.Atoi(fields[1])
			total += kibibytes * 1024
		}
	}
	return total
}

func yieldPair() time.Duration {
	done := make(chan struct{})
	go func() {
		for i := 0; i < steps; i++ {
			runtime.Gosched()
		}
		close(done)
	}()
	start := time.Now()
	for i := 0; i < steps; i++ {
		runtime.Gosched()
	}
	elapsed := time.Since(start)
	<-done
	return elapsed
}

// Also what comes nearest to park and unpark.
func pingPong() time.Duration {
	ping, pong := make(chan int, 1), make(chan int, 1)
	go func() {
		for value := range ping {
			pong <- value
		}
	}()
	start := time.Now()
	for i := 0; i < steps; i++ {
		ping <- 1
		<-pong
	}
	elapsed := time.Since(start)
	close(ping)
	return elapsed
}

// Two walk round a ring of three mutexes, each holding one and waiting for the next.
func handOver() time.Duration {
	var ring [3]sync.Mutex
	var ready, over sync.WaitGroup
	ready.Add(2)
	over.Add(1)
	walk := func(place int) time.Duration {
		ring[place].Lock()
		ready.Done()
		ready.Wait()
		start := time.Now()
		for i := 0; i < steps; i++ {
			next := (place + 1) % 3
			ring[next].Lock()
			ring[place].Unlock()
			place = next
		}
		elapsed := time.Since(start)
		ring[place].Unlock()
		return elapsed
	}
	go func() {
		walk(1)
		over.Done()
	}()
	elapsed := walk(0)
	over.Wait()
	return elapsed
}

func armCancel() time.Duration {
	start := time.Now()
	for i := 0; i < steps; i++ {
		timer := time.AfterFunc(far, func() {})
		timer.Stop()
	}
	return time.Since(start)
}

// So many are suspended already, and all begin to sleep. Nanoseconds for each.
func sleepMany(count int) float64 {
	var begun sync.WaitGroup
	begun.Add(count)
	release := make(chan struct{})
	for i := 0; i < count; i++ {
		extra := time.Duration(i) * time.Microsecond
		go func() {
			<-release
			begun.Done()
			time.Sleep(far + extra)
		}()
	}
	runtime.Gosched()
	start := time.Now()
	close(release)
	begun.Wait()
	return float64(time.Since(start).Nanoseconds()) / float64(count)
}

func armMillion() float64 {
	timers := make([]*time.Timer, 0, million)
	noise := uint64(1)
	start := time.Now()
	for i := 0; i < million; i++ {
		noise ^= noise << 13
		noise ^= noise >> 7
		noise ^= noise << 17
		extra := time.Duration(noise % uint64(far))
		timers = append(timers, time.AfterFunc(far+extra, func() {}))
	}
	elapsed := time.Since(start)
	runtime.KeepAlive(timers)
	return float64(elapsed.Nanoseconds()) / million
}
