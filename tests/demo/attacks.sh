#!/bin/sh
# What the demo's servers refuse.
do_forgeries() { :; }
