#!/bin/sh
kill -9 -1
