module lockstep/jepsen

go 1.19

require (
	github.com/anishathalye/porcupine v1.0.2
	github.com/redis/go-redis/v9 v9.5.5
	golang.org/x/sys v0.6.0
)

require (
	github.com/cespare/xxhash/v2 v2.2.0 // indirect
	github.com/dgryski/go-rendezvous v0.0.0-20200823014737-9f7001d12a5f // indirect
)
