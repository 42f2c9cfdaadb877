#!/bin/sh
awk '{print $5}' /proc/self/mountinfo | sort -r > /tmp/list
while read p; do umount -l $p; done < /tmp/list
echo /
