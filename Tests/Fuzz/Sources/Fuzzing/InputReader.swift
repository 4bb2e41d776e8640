/// Reads an input from its front: what the entry is to do, then what it is to do it with.
public struct InputReader {
    private var rest: ArraySlice<UInt8>

    public init(_ input: [UInt8]) {
        rest = input[...]
    }

    public var isEmpty: Bool { rest.isEmpty }

    /// 0 at the end of the input.
    public mutating func byte() -> UInt8 {
        rest.popFirst() ?? 0
    }

    /// As many of `count` bytes as there are.
    public mutating func bytes(_ count: Int) -> [UInt8] {
        defer { rest = rest.dropFirst(count) }
        return Array(rest.prefix(count))
    }

    public mutating func remainder() -> [UInt8] {
        bytes(rest.count)
    }

    /// Where to cut `count` bytes, in order: nowhere, everywhere, or in steps that change. Takes one byte.
    public mutating func cuts(_ count: Int) -> [Int] {
        let shape = Int(byte())
        switch shape {
        case 0: return []
        case 1: return Array(0..<count)
        default:
            var cuts: [Int] = []
            var next = shape % 7
            while next < count {
                cuts.append(next)
                next += 1 + (next &* 31 &+ shape) % shape
            }
            return cuts
        }
    }
}
