// go-redis against HOST PORT PROTOCOL: connect, set/get, pipeline, transaction, expire.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

func check(ok bool, what string, args ...any) {
	if !ok {
		fmt.Fprintf(os.Stderr, what+"\n", args...)
		os.Exit(1)
	}
}

func basics(ctx context.Context, c *redis.Client) {
	pong, err := c.Ping(ctx).Result()
	check(err == nil && pong == "PONG", "PING: %v %v", pong, err)
	check(c.Set(ctx, "go:k", "v", 0).Err() == nil, "SET")
	value, err := c.Get(ctx, "go:k").Result()
	check(err == nil && value == "v", "GET: %v %v", value, err)
	check(errors.Is(c.Get(ctx, "go:none").Err(), redis.Nil), "GET of a missing key")
	values, err := c.MGet(ctx, "go:k", "go:none").Result()
	check(err == nil && values[0] == "v" && values[1] == nil, "MGET: %v %v", values, err)
}

func pipelines(ctx context.Context, c *redis.Client) {
	c.Del(ctx, "go:n")
	replies, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := 0; i < 100; i++ {
			p.Incr(ctx, "go:n")
		}
		return nil
	})
	check(err == nil, "pipeline: %v", err)
	for i, reply := range replies {
		check(reply.(*redis.IntCmd).Val() == int64(i+1), "pipeline reply %d: %v", i, reply)
	}
}

func transactions(ctx context.Context, c *redis.Client) {
	add := func(tx *redis.Tx) error {
		n, err := tx.Get(ctx, "go:n").Int()
		check(err == nil, "GET in WATCH: %v", err)
		_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Set(ctx, "go:n", n+1, 0)
			return nil
		})
		return err
	}
	check(c.Watch(ctx, add, "go:n") == nil, "transaction")
	err := c.Watch(ctx, func(tx *redis.Tx) error {
		c.Incr(ctx, "go:n")
		return add(tx)
	}, "go:n")
	check(err == nil || errors.Is(err, redis.TxFailedErr), "transaction: %v", err)
	check(errors.Is(err, redis.TxFailedErr), "EXEC succeeded although a watched key had changed")
	n, _ := c.Get(ctx, "go:n").Int()
	check(n == 102, "go:n is %d after the transactions", n)
}

func expiry(ctx context.Context, c *redis.Client) {
	check(c.Expire(ctx, "go:k", 100*time.Second).Val(), "EXPIRE")
	ttl := c.TTL(ctx, "go:k").Val()
	check(ttl > 0 && ttl <= 100*time.Second, "TTL: %v", ttl)
	check(c.Set(ctx, "go:short", "x", time.Millisecond).Err() == nil, "SET PX")
	for c.Get(ctx, "go:short").Err() == nil {
	}
	err := c.Incr(ctx, "go:k").Err()
	check(err != nil && strings.Contains(err.Error(), "not an integer"), "INCR of text: %v", err)
	check(c.Del(ctx, "go:k", "go:n").Val() == 2, "DEL")
}

func main() {
	protocol, err := strconv.Atoi(os.Args[3])
	check(err == nil, "usage: HOST PORT PROTOCOL")
	ctx := context.Background()
	c := redis.NewClient(&redis.Options{Addr: net.JoinHostPort(os.Args[1], os.Args[2]), Protocol: protocol})
	defer c.Close()
	basics(ctx, c)
	pipelines(ctx, c)
	transactions(ctx, c)
	expiry(ctx, c)
}
