// net/http as server and client, database/sql with lib/pq: goroutines on whatever thread is free. A request is worked on
// by the goroutine of its connection or, with MODE=handoff, by one of its own.
package main

import (
	"bytes"
	"database/sql"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	_ "github.com/lib/pq"
)

var (
	pool    = number(os.Getenv("POOL"))
	backend = "http://127.0.0.1:" + os.Getenv("BACKEND_PORT")
	client  = &http.Client{Transport: &http.Transport{MaxConnsPerHost: pool, MaxIdleConnsPerHost: pool}}
	db      *sql.DB
	log     *os.File
)

type querier interface {
	Query(string, ...interface{}) (*sql.Rows, error)
}

func number(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}

func done(nonce, cause string) {
	fmt.Fprintf(log, "%s %s\n", nonce, cause)
}

func query(on querier, values, text string) error {
	var arguments []interface{}
	for _, value := range strings.Split(values, ",") {
		arguments = append(arguments, number(value))
	}
	rows, err := on.Query(text, arguments...)
	if err != nil {
		return err
	}
	for rows.Next() {
	}
	return rows.Close()
}

func call(method, target, body string) error {
	request, err := http.NewRequest(method, backend+target, strings.NewReader(body))
	if err != nil {
		return err
	}
	if body != "" {
		request.Header.Set("content-type", "application/json")
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

// One call or statement.
func single(line, cause string, on querier) error {
	word, rest, _ := strings.Cut(line, " ")
	var err error
	nonce, rest, _ := strings.Cut(rest, " ")
	if word == "http" {
		method, rest, _ := strings.Cut(rest, " ")
		target, body, _ := strings.Cut(rest, " ")
		err = call(method, target, body)
	} else {
		values, text, _ := strings.Cut(rest, " ")
		err = query(on, values, text)
	}
	if err == nil {
		done(nonce, cause)
	}
	return err
}

func carryOut(cause string, answer func(string)) error {
	text, err := os.ReadFile(os.Getenv("PLANS") + "/" + cause)
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	var tx *sql.Tx
	for i := 0; i < len(lines); i++ {
		word, rest, _ := strings.Cut(lines[i], " ")
		switch word {
		case "think":
			time.Sleep(time.Duration(number(rest)) * time.Millisecond)
		case "answer":
			answer(rest)
		case "begin":
			tx, err = db.Begin()
		case "commit":
			err = tx.Commit()
			tx = nil
		case "together":
			var group sync.WaitGroup
			errs := make(chan error, 8)
			for n := number(rest); n > 0; n-- {
				i++
				group.Add(1)
				go func(line string) {
					defer group.Done()
					errs <- single(line, cause, db)
				}(lines[i])
			}
			group.Wait()
			close(errs)
			for failed := range errs {
				if failed != nil {
					err = failed
				}
			}
		default:
			if tx != nil {
				err = single(lines[i], cause, tx)
			} else {
				err = single(lines[i], cause, db)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func report(nonce string, err error) {
	if err != nil {
		fmt.Fprintf(log, "! %s %q\n", nonce, err.Error())
		return
	}
	done(nonce, "-")
}

func answer(writer http.ResponseWriter, text string) {
	writer.Header().Set("content-type", "application/json")
	writer.Header().Set("content-length", strconv.Itoa(len(text)))
	io.Copy(writer, bytes.NewBufferString(text))
	// The client has its answer, the handler may go on.
	writer.(http.Flusher).Flush()
}

// The goroutine of the connection does the work.
func serve(writer http.ResponseWriter, request *http.Request) {
	io.Copy(io.Discard, request.Body)
	nonce := path.Base(request.URL.Path)
	answered := false
	err := carryOut(nonce, func(text string) {
		answer(writer, text)
		answered = true
	})
	report(nonce, err)
	if !answered {
		answer(writer, "")
	}
}

// A goroutine of its own does the work.
func handOff(writer http.ResponseWriter, request *http.Request) {
	io.Copy(io.Discard, request.Body)
	nonce := path.Base(request.URL.Path)
	answered := make(chan string, 1)
	go func() {
		err := carryOut(nonce, func(text string) { answered <- text })
		report(nonce, err)
		if err != nil {
			answered <- ""
		}
	}()
	answer(writer, <-answered)
}

func main() {
	var err error
	if log, err = os.OpenFile(os.Getenv("LOG"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err != nil {
		panic(err)
	}
	if db, err = sql.Open("postgres", os.Getenv("DATABASE_URL")+"?sslmode=disable"); err != nil {
		panic(err)
	}
	db.SetMaxOpenConns(pool)
	db.SetMaxIdleConns(pool)
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err != nil {
		panic(err)
	}
	handler := serve
	if os.Getenv("MODE") == "handoff" {
		handler = handOff
	}
	panic(http.Serve(listener, http.HandlerFunc(handler)))
}
