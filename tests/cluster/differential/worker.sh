#!/bin/bash
# Writes down what it was started with, then does what DO says. It stands for a script, and for an interpreter.
note=$OBSERVED/$TORCHELASTIC_RESTART_COUNT.$RANK
cat /proc/$$/environ >"$note.environment"
cat /proc/$$/cmdline >"$note.part"
mv "$note.part" "$note.arguments"
eval "$DO"
