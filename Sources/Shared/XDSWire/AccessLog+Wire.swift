import Base
import ProxyConfig

/// envoy.config.accesslog.v3.AccessLog.
enum AccessLogField: Int, WireField {
    case name = 1
    case filter = 2
    case typed_config = 4
}

/// envoy.extensions.access_loggers.file.v3.FileAccessLog.
enum FileAccessLogField: Int, WireField {
    case path = 1
    case format = 2
    case json_format = 3
    case typed_json_format = 4
    case log_format = 5
}

/// envoy.extensions.access_loggers.stream.v3.StdoutAccessLog and StderrAccessLog.
enum StreamAccessLogField: Int, WireField {
    case log_format = 1
}

/// envoy.config.core.v3.SubstitutionFormatString.
enum SubstitutionFormatField: Int, WireField {
    case text_format = 1
    case json_format = 2
    case omit_empty_values = 3
    case text_format_source = 5
    case formatters = 6
}

extension AccessLog: WireMessage {
    func write(to message: inout MessageWriter<AccessLogField>) {
        message.string(.name, "envoy.access_loggers.file")
        message.any(.typed_config, .fileAccessLog, FileAccessLogField.self) {
            $0.string(.path, path)
            switch format {
            case .standard: break
            case .text(let text):
                // text_format is deprecated.
                $0.message(.log_format, SubstitutionFormatField.self) {
                    $0.message(.text_format_source, DataSourceField.self) { $0.chosenString(.inline_string, text) }
                }
            case .json(let fields):
                $0.message(.log_format, SubstitutionFormatField.self) {
                    $0.message(.json_format, StructField.self) {
                        for field in fields { $0.entry(field.key) { $0.chosenString(.string_value, field.value) } }
                    }
                }
            }
        }
    }

    static func read(_ message: MessageReader<AccessLogField>) -> AccessLog? {
        message.refuse(.filter)
        guard let config = message.any(.typed_config) else {
            message.fail(.typed_config, expected: "an access logger", found: "nothing")
            return nil
        }
        switch config.type {
        case .fileAccessLog:
            guard let file = config.open(FileAccessLogField.self) else { return nil }
            return AccessLog(path: file.requiredString(.path), format: file.format())
        case .stdoutAccessLog, .stderrAccessLog:
            guard let stream = config.open(StreamAccessLogField.self) else { return nil }
            let path = config.type == .stdoutAccessLog ? "/dev/stdout" : "/dev/stderr"
            return AccessLog(path: path, format: stream.message(.log_format, SubstitutionFormatField.self)?.format() ?? .standard)
        default:
            config.fail(expected: "a file, stdout or stderr access logger")
            return nil
        }
    }
}

extension MessageReader<FileAccessLogField> {
    fileprivate func format() -> AccessLog.Format {
        switch chosen(.format, .json_format, .typed_json_format, .log_format) {
        case .format: string(.format).isEmpty ? .standard : .text(string(.format))
        case .json_format: .json(message(.json_format, StructField.self)?.logFields() ?? [])
        case .typed_json_format: .json(message(.typed_json_format, StructField.self)?.logFields() ?? [])
        default: message(.log_format, SubstitutionFormatField.self)?.format() ?? .standard
        }
    }
}

extension MessageReader<SubstitutionFormatField> {
    fileprivate func format() -> AccessLog.Format {
        refuse(.formatters)
        if bool(.omit_empty_values) { refuse(.omit_empty_values) }
        switch chosen(.text_format, .json_format, .text_format_source) {
        case .text_format: return .text(string(.text_format))
        case .text_format_source: return .text(message(.text_format_source, DataSourceField.self)?.inlineText() ?? "")
        case .json_format: return .json(message(.json_format, StructField.self)?.logFields() ?? [])
        default: return .standard
        }
    }
}

extension MessageReader<StructField> {
    fileprivate func logFields() -> [AccessLog.Field] {
        entries().compactMap { key, value in
            guard value.chosen(.null_value, .number_value, .string_value, .bool_value, .struct_value, .list_value) == .string_value else {
                context.add(path / key, expected: "text", found: "another kind of value")
                return nil
            }
            return AccessLog.Field(key: key, value: value.string(.string_value))
        }
    }
}
