import COpenSSL
public import Foundation

/// A SHA-256.
public struct EventHash: Hashable, Sendable, CustomStringConvertible {
    // Four words and no array: a million events are read without a million allocations.
    private var words: SIMD4<UInt64>

    /// What the first event of a log has before it.
    public static let none = EventHash(words: .zero)

    private init(words: SIMD4<UInt64>) {
        self.words = words
    }

    /// Nil unless there are 32 bytes.
    public init?(_ bytes: Data) {
        guard bytes.count == 32 else { return nil }
        words = .zero
        for (index, byte) in bytes.enumerated() { words[index / 8] |= UInt64(byte) << UInt64(index % 8 * 8) }
    }

    public init(of content: Data) {
        var digest = [UInt8](repeating: 0, count: 32)
        unsafe content.withUnsafeBytes { bytes in
            unsafe digest.withUnsafeMutableBufferPointer { unsafe copenssl_sha256(bytes.baseAddress, bytes.count, $0.baseAddress!) }
        }
        self.init(Data(digest))!
    }

    public var bytes: Data {
        var bytes = Data(capacity: 32)
        for index in 0..<4 { bytes.append(littleEndian: words[index]) }
        return bytes
    }

    /// In hexadecimal.
    public var description: String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}

extension StoredEvent {
    /// SHA-256 of the hash before and of every field, each with its length or of fixed length, so that no two events read alike.
    ///
    /// The form is part of the file's format (`SQLiteEventLog.schema`): the bytes of `previousHash`; sequence, batch, following, time,
    /// clockBehind as 64 bits; actor, reason, kind, payload as a length of 64 bits and the bytes. Numbers in little-endian order.
    var computedHash: EventHash {
        var content = Data(capacity: payload.count + actor.utf8.count + reason.utf8.count + kind.utf8.count + 104)
        content.append(previousHash.bytes)
        for number in [Int64(sequence), Int64(batch), Int64(following), time.milliseconds, clockBehind] {
            content.append(littleEndian: UInt64(bitPattern: number))
        }
        for word in [actor, reason, kind] {
            content.append(littleEndian: UInt64(word.utf8.count))
            content.append(contentsOf: word.utf8)
        }
        content.append(littleEndian: UInt64(payload.count))
        content.append(payload)
        return EventHash(of: content)
    }
}

extension Data {
    fileprivate mutating func append(littleEndian number: UInt64) {
        var number = number.littleEndian
        unsafe Swift.withUnsafeBytes(of: &number) { unsafe append(contentsOf: $0) }
    }
}
