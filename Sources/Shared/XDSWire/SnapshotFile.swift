import Base
public import ProxyConfig

/// The file form of a snapshot: one protobuf message, described in docs/snapshot-format.md.
public enum SnapshotFile {
    /// `outriggr` in ASCII, as the eight bytes that follow the first byte of the file.
    static let magic: UInt64 = 0x7267_6769_7274_756f
    static let format = 1

    /// Equal snapshots give equal bytes.
    public static func encode(_ snapshot: Snapshot) -> [UInt8] {
        let content = wireBytes(SnapshotContent(snapshot))
        var file = MessageWriter<EnvelopeField>()
        file.fixed64(.magic, magic)
        file.number(.format, format)
        file.fixed64(.content_hash, ContentHash(content).value)
        file.bytes(.content, content)
        return file.bytes
    }

    /// The version of a snapshot: the hash of its content, sixteen hexadecimal digits. The order of its resources does not count: a proxy
    /// that got them one after the other has them in another order than the control plane that made them.
    public static func version(of snapshot: Snapshot) -> String {
        var snapshot = snapshot
        snapshot.listeners.sort { $0.name < $1.name }
        snapshot.routeConfigurations.sort { $0.name < $1.name }
        snapshot.clusters.sort { $0.name < $1.name }
        snapshot.loadAssignments.sort { $0.clusterName < $1.clusterName }
        snapshot.secrets.sort { $0.name < $1.name }
        return ContentHash(wireBytes(SnapshotContent(snapshot))).description
    }

    /// - Throws: what is wrong with the file, or else every error of every resource in it.
    public static func decode(_ bytes: [UInt8]) throws(WireErrors) -> Snapshot {
        let content = try open(bytes)
        return try decodeMessage(SnapshotContent.self, content, "Snapshot").value.snapshot()
    }

    /// The checked content of a file. A file that ends too early is told from one that was changed, and from one that is not ours.
    private static func open(_ bytes: [UInt8]) throws(WireErrors) -> ArraySlice<UInt8> {
        let context = DecodingContext()
        guard let file = MessageReader<EnvelopeField>(bytes[...], path: FieldPath(), context: context) else {
            throw damaged("a whole snapshot file", "one of \(bytes.count) bytes that is cut off or damaged: \(context.errors[0].found)")
        }
        guard file.fixed64(.magic) == magic else { throw damaged("a snapshot file", "a file of another kind") }
        guard file.number(.format) == format else { throw damaged("format \(format)", "format \(file.number(.format))") }
        guard let hash = file.fixed64(.content_hash), let content = file.bytes(.content) else {
            throw damaged("a whole snapshot file", "one of \(bytes.count) bytes without its content")
        }
        let found = ContentHash(content)
        guard found.value == hash else {
            throw damaged("content with the hash that the file names", "damaged content, whose hash is \(found)")
        }
        return content
    }

    private static func damaged(_ expected: String, _ found: String) -> WireErrors {
        WireErrors([WireError(resource: "Snapshot", error: FieldError(path: FieldPath() / "file", expected: expected, found: found))])
    }
}

private enum EnvelopeField: Int, WireField {
    case magic = 1
    case format = 2
    case content_hash = 3
    case content = 4
}
