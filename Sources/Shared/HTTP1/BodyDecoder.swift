internal import HTTP

/// Finds the end of one message body and, in chunked coding, its pieces (RFC 9112 sections 6 and 7). State is O(1) at every cut.
struct BodyDecoder {
    private enum Phase: UInt8 {
        case length
        case untilClose
        case chunkSize
        case chunkExtension
        case chunkSizeEnd
        case chunkData
        case chunkDataEnd
        case chunkDataLineFeed
        case trailers
        case complete
    }

    private var phase = Phase.complete
    /// Bytes of the body, or of the chunk, that are still to come.
    private var remaining: UInt64 = 0
    /// Digits of the chunk's size, or bytes of its extension, that were seen.
    private var seen = 0
    private var trailerSection = FieldSection()

    mutating func start(_ framing: Framing) {
        switch framing {
        case .none:
            phase = .complete
        case .length(let length):
            remaining = UInt64(length)
            phase = length > 0 ? .length : .complete
        case .chunked:
            startChunk()
        case .untilClose:
            phase = .untilClose
        }
    }

    var isUntilClose: Bool { phase == .untilClose }

    private mutating func startChunk() {
        phase = .chunkSize
        remaining = 0
        seen = 0
    }

    mutating func next(
        _ bytes: RawSpan, at position: inout Int, limits: MessageLimits, trailers: Head
    ) throws(HTTP1Error) -> Event {
        while true {
            if phase == .complete { return .end }
            guard position < bytes.byteCount else { return .needMore }
            switch phase {
            case .length:
                let range = take(bytes, at: &position)
                if remaining == 0 { phase = .complete }
                return .body(range)
            case .untilClose:
                let range = position..<bytes.byteCount
                position = bytes.byteCount
                return .body(range)
            case .chunkSize:
                try readSize(bytes, at: &position)
            case .chunkExtension:
                try skipExtension(bytes, at: &position)
            case .chunkSizeEnd:
                guard bytes.byte(position) == 0x0A else { throw HTTP1Error(.bareLineEnd) }
                position &+= 1
                if remaining == 0 {
                    phase = .trailers
                    trailerSection.reset()
                } else {
                    phase = .chunkData
                }
            case .chunkData:
                let range = take(bytes, at: &position)
                if remaining == 0 { phase = .chunkDataEnd }
                return .body(range)
            case .chunkDataEnd:
                guard bytes.byte(position) == 0x0D else { throw HTTP1Error(.missingChunkEnd) }
                position &+= 1
                phase = .chunkDataLineFeed
            case .chunkDataLineFeed:
                guard bytes.byte(position) == 0x0A else { throw HTTP1Error(.missingChunkEnd) }
                position &+= 1
                startChunk()
            case .trailers:
                guard try readTrailers(bytes, at: &position, limits, trailers) else { return .needMore }
                phase = .complete
            case .complete:
                return .end
            }
        }
    }

    private mutating func take(_ bytes: RawSpan, at position: inout Int) -> Range<Int> {
        let count = Int(min(UInt64(bytes.byteCount &- position), remaining))
        let range = position..<position &+ count
        position &+= count
        remaining &-= UInt64(count)
        return range
    }

    /// Hexadecimal digits only, at most 16, and nothing but a line end or `;` behind them.
    private mutating func readSize(_ bytes: RawSpan, at position: inout Int) throws(HTTP1Error) {
        while position < bytes.byteCount {
            let byte = bytes.byte(position)
            if let digit = hexadecimalValue(byte) {
                seen &+= 1
                guard seen <= MessageLimits.maxChunkSizeDigits else {
                    throw HTTP1Error(.invalidChunkSize, limit: MessageLimits.maxChunkSizeDigits)
                }
                remaining = remaining &<< 4 | UInt64(digit)
                position &+= 1
                continue
            }
            // Sizes are signed where they are added up, so the highest bit is refused as well.
            guard seen > 0, remaining <= UInt64(Int64.max) else { throw HTTP1Error(.invalidChunkSize) }
            switch byte {
            case 0x0D: phase = .chunkSizeEnd
            case UInt8(ascii: ";"):
                phase = .chunkExtension
                seen = 0
            case 0x0A: throw HTTP1Error(.bareLineEnd)
            default: throw HTTP1Error(.invalidChunkSize)
            }
            position &+= 1
            return
        }
    }

    /// Extensions are dropped. Quoted strings are refused: parsers differ on whether a line may end inside of one.
    private mutating func skipExtension(_ bytes: RawSpan, at position: inout Int) throws(HTTP1Error) {
        while position < bytes.byteCount {
            let byte = bytes.byte(position)
            position &+= 1
            if byte == 0x0D {
                phase = .chunkSizeEnd
                return
            }
            guard byte != 0x0A else { throw HTTP1Error(.bareLineEnd) }
            guard byte == 0x09 || (byte >= 0x20 && byte < 0x7F), byte != UInt8(ascii: "\"") else {
                throw HTTP1Error(.invalidChunkExtension)
            }
            seen &+= 1
            guard seen <= MessageLimits.maxChunkExtensionBytes else {
                throw HTTP1Error(.chunkExtensionTooLong, limit: MessageLimits.maxChunkExtensionBytes)
            }
        }
    }

    /// The trailer section is read like a head: whole or not at all.
    private mutating func readTrailers(
        _ bytes: RawSpan, at position: inout Int, _ limits: MessageLimits, _ trailers: Head
    ) throws(HTTP1Error) -> Bool {
        let section = bytes.extracting(position..<min(bytes.byteCount, position &+ limits.maxHeadBytes))
        guard try trailerSection.parse(section, maxFields: limits.maxFields, into: trailers) else {
            if section.byteCount == limits.maxHeadBytes { throw HTTP1Error(.trailersTooLarge, limit: limits.maxHeadBytes) }
            return false
        }
        position &+= trailerSection.line
        guard !trailers.fields.isEmpty else { return true }
        trailers.bytes.removeAll(keepingCapacity: true)
        trailers.copy(section.extracting(0..<trailerSection.line))
        for field in trailers.fields where field.known.changesFraming { throw HTTP1Error(.forbiddenTrailer) }
        trailers.fields.removeAll { !$0.isAllowedInTrailers(trailers) }
        return true
    }
}

extension Head {
    func copy(_ source: RawSpan) {
        unsafe source.withUnsafeBytes { unsafe bytes.append(contentsOf: $0) }
    }
}
