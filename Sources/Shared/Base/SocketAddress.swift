/// A TCP port, 1 through 65535; 0 stands for "the kernel chooses" and is only valid where a listener is bound.
public typealias Port = UInt16

/// An IP address, version 4 or 6, without a port.
public enum IPAddress: Hashable, Sendable {
    /// The four octets in network order, most significant first.
    case v4(UInt32)
    /// The sixteen octets in network order, as two halves, most significant first.
    case v6(UInt64, UInt64)

    public static let anyV4 = IPAddress.v4(0)
    public static let loopbackV4 = IPAddress.v4(0x7f00_0001)
    public static let loopbackV6 = IPAddress.v6(0, 1)

    public var isV4: Bool { if case .v4 = self { true } else { false } }

    public var isLoopback: Bool {
        switch self {
        case .v4(let bits): bits >> 24 == 127
        case .v6(let high, let low): high == 0 && (low == 1 || low >> 24 == 0xffff_7f)
        }
    }

    /// Parses `10.0.0.1`, `::1`, `fe80::1`, `::ffff:10.0.0.1`. Nil for anything else: host names, ports, zones, octal forms.
    public init?(_ text: some StringProtocol) {
        let bytes = Array(text.utf8)
        if bytes.contains(UInt8(ascii: ":")) {
            guard let (high, low) = Self.parseV6(bytes[...]) else { return nil }
            self = .v6(high, low)
        } else {
            guard let bits = Self.parseV4(bytes[...]) else { return nil }
            self = .v4(bits)
        }
    }

    private static func parseV4(_ bytes: ArraySlice<UInt8>) -> UInt32? {
        let parts = bytes.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        var bits: UInt32 = 0
        for part in parts {
            guard (1...3).contains(part.count), part.count == 1 || part.first != UInt8(ascii: "0") else { return nil }
            var octet: UInt32 = 0
            for digit in part {
                guard (0x30...0x39).contains(digit) else { return nil }
                octet = octet * 10 + UInt32(digit - 0x30)
            }
            guard octet <= 255 else { return nil }
            bits = bits << 8 | octet
        }
        return bits
    }

    private static func parseV6(_ bytes: ArraySlice<UInt8>) -> (UInt64, UInt64)? {
        let parts = bytes.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
        guard (3...9).contains(parts.count) else { return nil }
        var groups: [UInt16] = []
        var gap: Int?
        for (index, part) in parts.enumerated() {
            if part.isEmpty {
                let atStart = index == 0 && parts[1].isEmpty
                let atEnd = index == parts.count - 1 && parts[index - 1].isEmpty
                if atStart || atEnd { continue }
                guard gap == nil, index > 0, index < parts.count - 1 else { return nil }
                gap = groups.count
            } else if index == parts.count - 1, part.contains(UInt8(ascii: ".")) {
                guard let bits = parseV4(part) else { return nil }
                groups.append(UInt16(bits >> 16))
                groups.append(UInt16(truncatingIfNeeded: bits))
            } else {
                guard part.count <= 4, let group = UInt16(String(decoding: part, as: UTF8.self), radix: 16), part.first != 0x2b else {
                    return nil
                }
                groups.append(group)
            }
        }
        if let gap {
            guard groups.count < 8 else { return nil }
            groups.insert(contentsOf: repeatElement(0, count: 8 - groups.count), at: gap)
        }
        guard groups.count == 8 else { return nil }
        let halves = groups.map(UInt64.init)
        return (
            halves[0] << 48 | halves[1] << 32 | halves[2] << 16 | halves[3],
            halves[4] << 48 | halves[5] << 32 | halves[6] << 16 | halves[7]
        )
    }
}

extension IPAddress: CustomStringConvertible {
    /// `10.0.0.1`, or the canonical form of RFC 5952.
    public var description: String {
        switch self {
        case .v4(let bits):
            return "\(bits >> 24).\(bits >> 16 & 255).\(bits >> 8 & 255).\(bits & 255)"
        case .v6(let high, let low):
            if high == 0, low >> 32 == 0xffff {
                return "::ffff:" + IPAddress.v4(UInt32(truncatingIfNeeded: low)).description
            }
            let groups = (0..<8).map { UInt16(truncatingIfNeeded: ($0 < 4 ? high : low) >> (48 - 16 * UInt64($0 % 4))) }
            var best = 0..<0
            var index = 0
            while index < 8 {
                var end = index
                while end < 8, groups[end] == 0 { end += 1 }
                if end - index > max(best.count, 1) { best = index..<end }
                index = max(end, index + 1)
            }
            func join(_ range: Range<Int>) -> String { range.map { String(groups[$0], radix: 16) }.joined(separator: ":") }
            return best.isEmpty ? join(0..<8) : join(0..<best.lowerBound) + "::" + join(best.upperBound..<8)
        }
    }
}

/// Version 4 before version 6, then by number.
extension IPAddress: Comparable {
    public static func < (left: IPAddress, right: IPAddress) -> Bool {
        switch (left, right) {
        case (.v4(let left), .v4(let right)): left < right
        case (.v6(let high, let low), .v6(let otherHigh, let otherLow)): (high, low) < (otherHigh, otherLow)
        case (.v4, .v6): true
        case (.v6, .v4): false
        }
    }
}

/// An IP address and a port: what a socket is bound or connected to.
public struct SocketAddress: Hashable, Sendable, CustomStringConvertible {
    public var ip: IPAddress
    public var port: Port

    public init(_ ip: IPAddress, _ port: Port) {
        self.ip = ip
        self.port = port
    }

    /// Parses `10.0.0.1:80` and `[::1]:80`.
    public init?(_ text: some StringProtocol) {
        guard let colon = text.lastIndex(of: ":") else { return nil }
        var host = text[..<colon]
        let digits = text[text.index(after: colon)...]
        guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let port = UInt16(digits) else { return nil }
        if host.first == "[" {
            guard host.last == "]" else { return nil }
            host = host.dropFirst().dropLast()
        } else if host.contains(":") {
            return nil
        }
        guard let ip = IPAddress(host) else { return nil }
        self.init(ip, port)
    }

    public var description: String { ip.isV4 ? "\(ip):\(port)" : "[\(ip)]:\(port)" }
}
