//go:build binaries

// Package binaries names the commands that dev/cluster builds, so that "go mod tidy" keeps what they need.
package binaries

import _ "go.etcd.io/etcd/server/v3/etcdmain"
