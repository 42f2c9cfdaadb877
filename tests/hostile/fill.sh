#!/bin/sh
for d in /tmp /run /dev/shm; do cat /dev/zero > $d/fill; done
