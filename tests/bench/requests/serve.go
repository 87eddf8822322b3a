package main

import (
	"crypto/sha256"
	"encoding/binary"
	"os"
)

const (
	asking    = 16 // bytes of a request: a number, and how much to hash
	answering = sha256.Size
)

// largest is the most that a request may ask the server to hash.
const largest = 1 << 20

// serve answers one client after the other, for ever. It greets each with its process id.
func serve(port int) error {
	listening, err := listen(port)
	if err != nil {
		return err
	}
	for {
		client, err := accept(listening)
		if err != nil {
			return err
		}
		var greeting [8]byte
		binary.LittleEndian.PutUint64(greeting[:], uint64(os.Getpid()))
		if err := client.write(greeting[:]); err == nil {
			answer(client)
		}
		client.close()
	}
}

// answer serves a client until it hangs up.
func answer(client connection) {
	request, content := make([]byte, asking), make([]byte, largest)
	for client.read(request) == nil {
		size := binary.LittleEndian.Uint64(request[8:])
		if size < 8 || size > largest {
			return
		}
		reply := work(content[:size], binary.LittleEndian.Uint64(request))
		if client.write(reply[:]) != nil {
			return
		}
	}
}

// work is what a request costs: a hash over content that begins with the request's number.
func work(content []byte, number uint64) [answering]byte {
	binary.LittleEndian.PutUint64(content, number)
	return sha256.Sum256(content)
}
