#!/bin/sh
kill -STOP $PPID
sleep 1000
