package depmod

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
)

// Numbers of the index format (kmod, libkmod/libkmod-index.h).
const (
	indexMagic   = 0xb007f457
	indexVersion = 0x00020001 // major 2, minor 1

	// Flags in the upper bits of a node's offset.
	nodePrefix   = 0x80000000
	nodeValues   = 0x40000000
	nodeChildren = 0x20000000
)

// index is a trie from keys of 7-bit characters to values. A node stands for
// the character by which its parent has it, followed by its prefix.
type index struct {
	prefix   string
	children map[byte]*index
	values   []indexValue
}

// indexValue is a value. A low priority comes first.
type indexValue struct {
	value    string
	priority int
}

// checkKey says why key cannot be in an index.
func checkKey(key string) error {
	for i := range len(key) {
		if key[i] == 0 || key[i] >= 0x80 {
			return fmt.Errorf("%q has a character that an index cannot hold", key)
		}
	}
	return nil
}

// insert adds a value under key, which checkKey accepts.
func (x *index) insert(key, value string, priority int) {
	node := x
	for {
		common := 0
		for common < len(node.prefix) && common < len(key) && node.prefix[common] == key[common] {
			common++
		}
		if common < len(node.prefix) {
			// Split: the rest of the prefix moves to a child.
			child := *node
			child.prefix = node.prefix[common+1:]
			*node = index{prefix: node.prefix[:common], children: map[byte]*index{node.prefix[common]: &child}}
		}
		if key = key[common:]; key == "" {
			node.add(value, priority)
			return
		}
		next := node.children[key[0]]
		if next == nil {
			if node.children == nil {
				node.children = map[byte]*index{}
			}
			next = &index{prefix: key[1:]}
			next.add(value, priority)
			node.children[key[0]] = next
			return
		}
		node, key = next, key[1:]
	}
}

// add keeps values by priority; of equal ones the last comes first.
func (x *index) add(value string, priority int) {
	i, _ := slices.BinarySearchFunc(x.values, priority, func(v indexValue, p int) int { return cmp.Compare(v.priority, p) })
	x.values = slices.Insert(x.values, i, indexValue{value, priority})
}

// bytes returns the file.
func (x *index) bytes() []byte {
	out := binary.BigEndian.AppendUint32(nil, indexMagic)
	out = binary.BigEndian.AppendUint32(out, indexVersion)
	out = binary.BigEndian.AppendUint32(out, 0) // where the root is, known at the end
	out, root := x.append(out)
	binary.BigEndian.PutUint32(out[8:], root)
	return out
}

// append writes the node, and behind it its children, and returns the node's
// offset with flags. (depmod before version 34 wrote children first; readers
// follow the offsets.)
func (x *index) append(out []byte) ([]byte, uint32) {
	offset := uint32(len(out))
	flags := uint32(0)
	if x.prefix != "" {
		out = append(append(out, x.prefix...), 0)
		flags |= nodePrefix
	}
	first, last := byte(0xff), byte(0)
	for c := range x.children {
		first, last = min(first, c), max(last, c)
	}
	table := 0
	if len(x.children) > 0 {
		out = append(out, first, last)
		table = len(out)
		out = append(out, make([]byte, 4*(int(last)-int(first)+1))...)
		flags |= nodeChildren
	}
	if len(x.values) > 0 {
		out = binary.BigEndian.AppendUint32(out, uint32(len(x.values)))
		for _, v := range x.values {
			out = binary.BigEndian.AppendUint32(out, uint32(v.priority))
			out = append(append(out, v.value...), 0)
		}
		flags |= nodeValues
	}
	for c := int(first); c <= int(last); c++ {
		if child := x.children[byte(c)]; child != nil { // others have offset 0
			var at uint32
			out, at = child.append(out)
			binary.BigEndian.PutUint32(out[table+4*(c-int(first)):], at)
		}
	}
	return out, offset | flags
}
