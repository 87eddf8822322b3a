package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand"
	"os"
)

// load asks at a fixed rate whatever the server does: a request that is due while another waits is sent late, and its
// time still counts from when it was due. It ends when its standard input does, or its time is up.
type load struct {
	rate    float64
	seconds float64
	bytes   int
	seed    int64
}

// request is one request's moments in nanoseconds of CLOCK_MONOTONIC.
type request struct {
	due, sent, done int64
	queued          int64 // how long client and server together stood on run queues since the request before
}

// warmUp requests come first: their answers are checked, and they are not written down.
const warmUp = 20

// begun is the first line of the output, written when the first request is due soon.
const begun = "begun"

// run sends the requests and writes a line for each: due, sent, done, queued, in nanoseconds.
func (l load) run(port int, out io.Writer) error {
	if l.rate <= 0 || l.seconds <= 0 || l.bytes < 8 || l.bytes > largest {
		return fmt.Errorf("rate and seconds must be above 0, bytes 8 to %d", largest)
	}
	server, err := connect(port)
	if err != nil {
		return err
	}
	defer server.close()
	punctual()
	wait, err := waits(server)
	if err != nil {
		return err
	}
	for number := range uint64(warmUp) {
		reply, err := ask(server, number, l.bytes)
		if err == nil && reply != work(make([]byte, l.bytes), number) {
			err = fmt.Errorf("the server's answer is wrong")
		}
		if err != nil {
			return err
		}
	}
	fmt.Fprintln(out, begun)
	made, err := l.ask(server, wait)
	if err != nil {
		return err
	}
	return write(made, out)
}

// waits tells, each time, how long client and server have stood on run queues since the time before.
func waits(server connection) (func() (int64, error), error) {
	var greeting [8]byte
	if err := server.read(greeting[:]); err != nil {
		return nil, err
	}
	client, err := queuedOf(os.Getpid())
	if err != nil {
		return nil, err
	}
	serving, err := queuedOf(int(binary.LittleEndian.Uint64(greeting[:])))
	if err != nil {
		return nil, err
	}
	var before int64
	return func() (int64, error) {
		own, err := client.nanoseconds()
		if err != nil {
			return 0, err
		}
		theirs, err := serving.nanoseconds()
		since := own + theirs - before
		before += since
		return since, err
	}, nil
}

// ask sends every request at its moment.
func (l load) ask(server connection, wait func() (int64, error)) ([]request, error) {
	due := l.moments(int(l.rate*l.seconds), now())
	made := make([]request, 0, len(due))
	if _, err := wait(); err != nil {
		return nil, err
	}
	for number := range due {
		if ended() {
			break
		}
		one := request{due: due[number]}
		sleepUntil(one.due)
		one.sent = now()
		_, err := ask(server, uint64(number), l.bytes)
		one.done = now()
		if err == nil {
			one.queued, err = wait()
		}
		if err != nil {
			return nil, fmt.Errorf("request %d: %w", number, err)
		}
		made = append(made, one)
	}
	return made, nil
}

// moments at which requests are due: one in each interval, at a random place in its first half, so that they do not
// keep step with the kernel's ticks and never come two at once.
func (l load) moments(count int, start int64) []int64 {
	chance := rand.New(rand.NewSource(l.seed))
	interval := 1e9 / l.rate
	due := make([]int64, count)
	for number := range due {
		due[number] = start + int64(interval*(float64(number+1)+chance.Float64()/2))
	}
	return due
}

// ask sends one request and waits for its reply.
func ask(server connection, number uint64, size int) (reply [answering]byte, err error) {
	var message [asking]byte
	binary.LittleEndian.PutUint64(message[:], number)
	binary.LittleEndian.PutUint64(message[8:], uint64(size))
	if err := server.write(message[:]); err != nil {
		return reply, err
	}
	err = server.read(reply[:])
	return reply, err
}

func write(made []request, out io.Writer) error {
	lines := bufio.NewWriterSize(out, 1<<20)
	for _, one := range made {
		fmt.Fprintln(lines, one.due, one.sent, one.done, one.queued)
	}
	return lines.Flush()
}
