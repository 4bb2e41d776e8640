internal import HTTP

/// The header block that is being read: where its fields go, and what they have cost.
struct HeaderBlock {
    /// Nil between blocks, and while a block is read whose stream does not interest any more.
    var stream: HTTP2Stream?
    var isTrailers = false
    /// Names, values and 32 bytes for each field (RFC 9113 section 6.5.2).
    var bytes = 0
    var fields = 0
    var pseudoFields = 0
    var cookies = 0

    mutating func begin(_ stream: HTTP2Stream, isTrailers: Bool) {
        self.stream = stream
        self.isTrailers = isTrailers
        bytes = 0
        fields = 0
        pseudoFields = 0
        cookies = 0
    }
}

extension Head {
    /// Appends a field as HTTP/1 would write it, so that its encoder can copy runs of fields at once.
    @inline(__always)
    func appendLine(_ name: UnsafeBufferPointer<UInt8>, _ value: UnsafeBufferPointer<UInt8>) -> Int {
        let start = bytes.count
        let length = name.count &+ value.count &+ 4
        bytes.append(addingCapacity: length) { span in
            unsafe span.withUnsafeMutableBufferPointer { buffer, count in
                let line = unsafe buffer.baseAddress.unsafelyUnwrapped + count
                if let source = name.baseAddress { unsafe line.update(from: source, count: name.count) }
                unsafe line[name.count] = UInt8(ascii: ":")
                unsafe line[name.count &+ 1] = UInt8(ascii: " ")
                if let source = value.baseAddress { unsafe (line + name.count + 2).update(from: source, count: value.count) }
                unsafe line[length &- 2] = 0x0D
                unsafe line[length &- 1] = 0x0A
                count &+= length
            }
        }
        return start
    }
}
