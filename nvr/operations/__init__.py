"""What the operator's commands do: by the control socket of a running recorder, or on the files of a stopped one."""
