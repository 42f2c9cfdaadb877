#!/bin/sh
exec yes flood
