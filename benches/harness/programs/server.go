// The Go server: a goroutine a connection. Same work as the others: see handler.rs.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
)

const hello = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nHello, world!\n"

var answers = bytes.Repeat([]byte(hello), 256)

func main() {
	service := flag.String("service", "echo", "echo, http or redis")
	size := flag.Int("buffer", 4096, "bytes")
	redis := flag.String("redis", "", "address")
	flag.Int("workers", 1, "ignored")
	flag.Parse()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("listening", listener.Addr())
	for {
		connection, err := listener.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		switch *service {
		case "echo":
			go echo(connection, *size)
		case "http":
			go http(connection, *size)
		default:
			go lookUp(connection, *redis)
		}
	}
}

func echo(connection net.Conn, size int) {
	defer connection.Close()
	buffer := make([]byte, size)
	for {
		count, err := connection.Read(buffer)
		if err != nil {
			return
		}
		if _, err = connection.Write(buffer[:count]); err != nil {
			return
		}
	}
}

func http(connection net.Conn, size int) {
	defer connection.Close()
	buffer := make([]byte, size)
	seen := 0
	for {
		count, err := connection.Read(buffer)
		if err != nil {
			return
		}
		heads := 0
		for _, b := range buffer[:count] {
			switch {
			case b == '\r' && seen%2 == 0, b == '\n' && seen%2 == 1:
				seen++
			case b == '\r':
				seen = 1
			default:
				seen = 0
			}
			if seen == 4 {
				seen = 0
				heads++
			}
		}
		if heads == 0 {
			continue
		}
		if _, err = connection.Write(answers[:heads*len(hello)]); err != nil {
			return
		}
	}
}

func lookUp(connection net.Conn, redis string) {
	defer connection.Close()
	buffer := make([]byte, 512)
	filled := 0
	var output []byte
	for {
		count, err := connection.Read(buffer[filled:])
		if err != nil {
			return
		}
		filled += count
		for {
			length := bytes.Index(buffer[:filled], []byte("\r\n\r\n")) + 4
			if length < 4 {
				break
			}
			path := buffer[len("GET /"):length]
			key := path[:bytes.IndexByte(path, ' ')]
			if output, err = fetch(redis, key, output[:0]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return
			}
			copy(buffer, buffer[length:filled])
			filled -= length
			if _, err = connection.Write(output); err != nil {
				return
			}
		}
	}
}

var pool struct {
	sync.Mutex
	idle []net.Conn
}

func take(redis string) (net.Conn, error) {
	pool.Lock()
	defer pool.Unlock()
	if last := len(pool.idle) - 1; last >= 0 {
		connection := pool.idle[last]
		pool.idle = pool.idle[:last]
		return connection, nil
	}
	return net.Dial("tcp4", redis)
}

func putBack(connection net.Conn) {
	pool.Lock()
	pool.idle = append(pool.idle, connection)
	pool.Unlock()
}

func fetch(redis string, key []byte, output []byte) ([]byte, error) {
	connection, err := take(redis)
	if err != nil {
		return nil, err
	}
	output = append(output, "*2\r\n$3\r\nGET\r\n$"...)
	output = strconv.AppendInt(output, int64(len(key)), 10)
	output = append(append(append(output, "\r\n"...), key...), "\r\n"...)
	if _, err = connection.Write(output); err != nil {
		return nil, err
	}
	var reply [256]byte
	filled := 0
	for {
		count, err := connection.Read(reply[filled:])
		if err != nil {
			return nil, err
		}
		filled += count
		line := bytes.Index(reply[:filled], []byte("\r\n"))
		if line < 0 {
			continue
		}
		length, err := strconv.Atoi(string(reply[1:line]))
		if err != nil || reply[0] != '$' || length < 0 {
			return nil, errors.New("not a value from Redis")
		}
		if filled < line+2+length+2 {
			continue
		}
		putBack(connection)
		head := "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: "
		output = append(output[:0], head...)
		output = strconv.AppendInt(output, int64(length), 10)
		output = append(output, "\r\n\r\n"...)
		return append(output, reply[line+2:line+2+length]...), nil
	}
}
