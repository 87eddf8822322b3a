// Package topology stands in for the module of this name, which nri-plugins requires and no module proxy has.
//
// Written anew from how the policy calls it: where the device behind a path or a device number is attached, as the
// kernel's sysfs tells.
package topology

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Hint says which CPUs, NUMA nodes or sockets are near to a provider; lists as the kernel writes them.
type Hint struct {
	Provider string
	CPUs     string
	NUMAs    string
	Sockets  string
}

// Hints are hints by provider.
type Hints map[string]Hint

// ResolvePartialHints names the CPUs of hints that know NUMA nodes alone.
func (h Hints) ResolvePartialHints(cpusOf func(numas string) string) {
	for provider, hint := range h {
		if hint.CPUs == "" && hint.NUMAs != "" {
			hint.CPUs = cpusOf(hint.NUMAs)
			h[provider] = hint
		}
	}
}

// Logger is what the policy logs with; nothing is logged here.
type Logger any

var root string

// SetLogger takes a logger.
func SetLogger(Logger) {}

// SetSysRoot says below which folder sys is.
func SetSysRoot(path string) { root = path }

// FindSysFsDevice gives sysfs' folder of a device file, or of the block device that a file or folder is on.
func FindSysFsDevice(path string) (string, error) {
	var found unix.Stat_t
	if err := unix.Stat(path, &found); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	switch found.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		return folder("char", found.Rdev)
	case unix.S_IFBLK:
		return folder("block", found.Rdev)
	default:
		return folder("block", found.Dev)
	}
}

// FindGivenSysFsDevice gives sysfs' folder of a device by its type (c or b, char or block) and number.
func FindGivenSysFsDevice(kind string, major, minor int64) (string, error) {
	switch kind {
	case "c", "u":
		kind = "char"
	case "b":
		kind = "block"
	}
	return folder(kind, unix.Mkdev(uint32(major), uint32(minor)))
}

func folder(kind string, number uint64) (string, error) {
	link := fmt.Sprintf("%s/sys/dev/%s/%d:%d", root, kind, unix.Major(number), unix.Minor(number))
	return filepath.EvalSymlinks(link)
}

// NewTopologyHints gives the hint of the nearest folder at or above a device's that has one.
func NewTopologyHints(device string) (Hints, error) {
	top := filepath.Join("/", root, "sys/devices")
	for at := device; strings.HasPrefix(at, top+"/"); at = filepath.Dir(at) {
		numas, err := read(at, "numa_node")
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		cpus, err := read(at, "local_cpulist")
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		if strings.HasPrefix(numas, "-") {
			numas = ""
		}
		return Hints{at: {Provider: at, CPUs: cpus, NUMAs: numas}}, nil
	}
	return Hints{}, nil
}

func read(folder, name string) (string, error) {
	text, err := os.ReadFile(filepath.Join(folder, name))
	return strings.TrimSpace(string(text)), err
}

// MergeTopologyHints adds hints to others; one that is there already stays.
func MergeTopologyHints(into, more Hints) Hints {
	if into == nil {
		into = Hints{}
	}
	for provider, hint := range more {
		if _, there := into[provider]; !there {
			into[provider] = hint
		}
	}
	return into
}
