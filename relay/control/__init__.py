"""The operator's door: HTTP/1.1 with JSON on a unix socket.

`server` is the shell, `routes` what each path does, `answers` how the numbers become words.
"""
