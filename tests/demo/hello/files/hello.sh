#!/bin/sh
# Answers one HTTP request on stdin with one line on stdout.
while read -r line && [ "$line" != "$(printf '\r')" ]; do :; done
printf 'HTTP/1.0 200 OK\r\n\r\nhello, version 1, from %s\n' "$(uname -n)"
