// An HTTP server of Go's standard library that answers every request with the same bytes.
//
//	server ADDRESS FILE NAME VALUE [NAME VALUE ...]
//
// sends the file with these header fields. The environment sets GOMAXPROCS.
package main

import (
	"log"
	"net/http"
	"os"
)

func main() {
	address, fields := os.Args[1], os.Args[3:]
	body, err := os.ReadFile(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	answer := func(response http.ResponseWriter, _ *http.Request) {
		header := response.Header()
		for at := 0; at < len(fields); at += 2 {
			header.Set(fields[at], fields[at+1])
		}
		response.Write(body)
	}
	log.Fatal(http.ListenAndServe(address, http.HandlerFunc(answer)))
}
