// A server, or a client over one TLS connection:
//
//	peer serve PORT CERTIFICATE KEY VERSION
//	peer call URL CA COUNT GO LOG
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(port, certificate, key, version string) {
	number := map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}[version]
	server := http.Server{
		Addr: "127.0.0.1:" + port,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"path": %q}`, r.URL.Path)
		}),
		TLSConfig:    &tls.Config{MinVersion: number, MaxVersion: number, NextProtos: []string{"http/1.1"}},
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	go func() {
		time.Sleep(100 * time.Millisecond)
		fmt.Println("listening")
	}()
	check(server.ListenAndServeTLS(certificate, key))
}

func call(address, ca, count, goFile, log string) {
	pool := x509.NewCertPool()
	pem, err := os.ReadFile(ca)
	check(err)
	pool.AppendCertsFromPEM(pem)
	client := http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool},
		MaxConnsPerHost: 1,
	}}
	base, err := url.Parse(address)
	check(err)
	ask := func(path string) int {
		response, err := client.Get("https://" + base.Host + path)
		check(err)
		_, err = io.Copy(io.Discard, response.Body)
		check(err)
		check(response.Body.Close())
		return response.StatusCode
	}
	if goFile != "-" {
		ask("/before")
		fmt.Println("connected")
		for {
			if _, err := os.Stat(goFile); err == nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	out, err := os.Create(log)
	check(err)
	times, err := strconv.Atoi(count)
	check(err)
	for number := 0; number < times; number++ {
		path := fmt.Sprintf("%s/%d", base.Path, number)
		fmt.Fprintf(out, "GET %s %d\n", path, ask(path))
		time.Sleep(10 * time.Millisecond)
	}
	if goFile != "-" {
		// Its secret is looked for while it is open.
		time.Sleep(time.Second)
	}
	fmt.Fprintln(out, "done")
	check(out.Close())
}

func main() {
	if os.Args[1] == "serve" {
		serve(os.Args[2], os.Args[3], os.Args[4], os.Args[5])
	} else {
		call(os.Args[2], os.Args[3], os.Args[4], os.Args[5], os.Args[6])
	}
}
