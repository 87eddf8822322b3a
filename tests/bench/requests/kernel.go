package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"unsafe"
)

// Linux's numbers on amd64, as golang.org/x/sys has them.
const (
	clockMonotonic = 1
	timerAbsolute  = 1
	setTimerSlack  = 29
	noDelay        = 1
)

// now is CLOCK_MONOTONIC in nanoseconds, what /proc/uptime shows in seconds.
func now() int64 {
	var ts syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&ts)), 0)
	return ts.Nano()
}

// sleepUntil returns at that moment, or at once when it has passed.
func sleepUntil(moment int64) {
	ts := syscall.NsecToTimespec(moment)
	for {
		_, _, errno := syscall.RawSyscall6(syscall.SYS_CLOCK_NANOSLEEP, clockMonotonic, timerAbsolute,
			uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
		if errno != syscall.EINTR {
			return
		}
	}
}

// punctual asks the kernel not to join this thread's timers with others.
func punctual() {
	syscall.RawSyscall(syscall.SYS_PRCTL, setTimerSlack, 1, 0)
}

// ended says whether standard input has: whoever started this process wants no more of it.
func ended() bool {
	const input, readable = 0, 1
	waiting := struct {
		fd              int32
		wanted, happens int16
	}{input, readable, 0}
	n, _, errno := syscall.RawSyscall(syscall.SYS_POLL, uintptr(unsafe.Pointer(&waiting)), 1, 0)
	return errno == 0 && n == 1
}

// connection is a TCP socket that the thread itself waits on.
type connection int

func (c connection) read(into []byte) error {
	for len(into) > 0 {
		n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(c), uintptr(unsafe.Pointer(&into[0])), uintptr(len(into)))
		switch {
		case errno == syscall.EINTR:
		case errno != 0:
			return errno
		case n == 0:
			return fmt.Errorf("the other side has hung up")
		default:
			into = into[n:]
		}
	}
	return nil
}

func (c connection) write(from []byte) error {
	for len(from) > 0 {
		n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(c), uintptr(unsafe.Pointer(&from[0])), uintptr(len(from)))
		if errno != 0 && errno != syscall.EINTR {
			return errno
		}
		if errno == 0 {
			from = from[n:]
		}
	}
	return nil
}

func (c connection) close() {
	syscall.Close(int(c))
}

func listen(port int) (int, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		return 0, err
	}
	syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, fmt.Errorf("port %d of 127.0.0.1: %w", port, err)
	}
	return fd, syscall.Listen(fd, 1)
}

func accept(listening int) (connection, error) {
	fd, _, err := syscall.Accept(listening)
	return connection(fd), err
}

func connect(port int) (connection, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		return 0, err
	}
	syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, noDelay, 1)
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, fmt.Errorf("nobody listens on port %d of 127.0.0.1: %w", port, err)
	}
	return connection(fd), nil
}

// queued reads how long a process's first thread has stood on run queues so far: the second figure of its schedstat.
type queued struct {
	file *os.File
	text [96]byte
}

func queuedOf(pid int) (*queued, error) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/schedstat", pid))
	if err != nil {
		return nil, err
	}
	found := &queued{file: file}
	_, err = found.nanoseconds()
	return found, err
}

func (q *queued) nanoseconds() (int64, error) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_PREAD64, q.file.Fd(), uintptr(unsafe.Pointer(&q.text[0])),
		uintptr(len(q.text)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	fields := bytes.Fields(q.text[:n])
	if len(fields) < 3 {
		return 0, fmt.Errorf("%s says %q", q.file.Name(), q.text[:n])
	}
	return strconv.ParseInt(string(fields[1]), 10, 64)
}
