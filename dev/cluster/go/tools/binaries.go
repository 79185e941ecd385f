//go:build binaries

// Package binaries names the commands that dev/cluster builds, so that "go mod tidy" keeps what they need.
package binaries

import (
	_ "github.com/coredns/coredns"
	_ "helm.sh/helm/v4/cmd/helm"
)
