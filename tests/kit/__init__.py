"""
What the tests share. Each module has one purpose, which its first line says.

- Stores: `trees` and `downloads` lie on a disk as Ollama leaves them. `kinds` has every kind of
  store, with what other programs do there. `scenes` fill one with what is of known age. `copies`
  and `plays` do one operation on many copies. `views` are short ways to ask a store.
- Time and faults: `clocks`; `os_seam` with `faults` for the system, `bucket_seam` for requests,
  `proxy` and `outages` for the way to a bucket, `steps` for the protocol of a store, `races`.
- Servers: `asking` for WSGI without one, `servers` for real ones, `recorded` for the Go handler,
  `children` for processes that end with the tests.
- Emulators: `s3` (moto or Ceph), `azurite`, and the `patience` of their clients.
- The system: `worlds` are real file systems, `share` is one of another system, `users` are others.
- The tests themselves: `effort`, `requirements`, `strategies`, and `inside` for what is not public.
"""
