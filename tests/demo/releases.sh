#!/bin/sh
# What the demo's board votes: the agent, a service, and a release that does not work.
do_first_release() { :; }
