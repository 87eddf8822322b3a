// A small application that serves requests, and the client that measures it.
//
// Both are one thread each that waits in plain system calls: no garbage collector, no preemption, no scheduler but the
// kernel's. What a request waits for is then the kernel's doing alone.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
)

// unsignalled keeps Go's runtime from sending the thread a signal every 10 ms. It is read before main begins.
const unsignalled = "GODEBUG=asyncpreemptoff=1"

func init() {
	runtime.LockOSThread() // the first thread of the process, whose /proc/PID/schedstat is read
}

func main() {
	if os.Getenv("GODEBUG") == "" {
		fail(syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), unsignalled)))
	}
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(-1)
	if len(os.Args) < 2 {
		fail(fmt.Errorf("usage: requests serve|load [-port N] ..."))
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	port := flags.Int("port", 8080, "port on 127.0.0.1")
	switch os.Args[1] {
	case "serve":
		flags.Parse(os.Args[2:])
		fail(serve(*port))
	case "load":
		asked := load{}
		flags.Float64Var(&asked.rate, "rate", 100, "requests a second")
		flags.Float64Var(&asked.seconds, "seconds", 10, "how long at most")
		flags.IntVar(&asked.bytes, "bytes", 8192, "what the server hashes for each request")
		flags.Int64Var(&asked.seed, "seed", 1, "of the moments at which requests are due")
		flags.Parse(os.Args[2:])
		if err := asked.run(*port, os.Stdout); err != nil {
			fail(err)
		}
	default:
		fail(fmt.Errorf("%q is neither serve nor load", os.Args[1]))
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "requests:", err)
	os.Exit(1)
}
