import Foundation
import Glibc
import Yams

/// A control plane and how to reach it.
struct ControlProfile: Hashable, Codable {
    /// `host:port`, `http://host:port` or `https://host:port`.
    var address: String
    /// PEM file: whom to trust.
    var authority: String?
    /// The name in the control plane's certificate, where it is not the address's host.
    var serverName: String?
    /// PEM files: who we are.
    var certificate: String?
    var key: String?
    var token: String?
    /// Of commands that name none.
    var namespace: String?

    enum CodingKeys: String, CodingKey {
        case address
        case authority = "ca"
        case serverName = "server-name"
        case certificate, key, token, namespace
    }
}

/// The profiles of a user: `$XDG_CONFIG_HOME/outrigger/config.yaml`, else `~/.config/outrigger/config.yaml`. It holds tokens, so it is for
/// its owner's eyes only.
struct ProfileFile: Hashable, Codable {
    var current: String?
    var contexts: [String: ControlProfile] = [:]

    static func path(_ environment: [String: String]) -> String {
        let base =
            environment["XDG_CONFIG_HOME"].flatMap { $0.hasPrefix("/") ? $0 : nil }
            ?? "\(environment["HOME"] ?? NSHomeDirectory())/.config"
        return "\(base)/outrigger/config.yaml"
    }

    /// Empty where there is no file.
    static func load(_ path: String) throws -> ProfileFile {
        var status = stat()
        guard unsafe stat(path, &status) == 0 else {
            if errno == ENOENT || errno == ENOTDIR { return ProfileFile() }
            throw Failure(message: "\(path) cannot be read: \(systemError())")
        }
        if status.st_mode & 0o077 != 0 {
            Console.say("warning: \(path) holds tokens and others can read it: chmod 600 it")
        }
        do {
            let text = try String(contentsOfFile: path, encoding: .utf8)
            guard text.contains(where: { !$0.isWhitespace }) else { return ProfileFile() }
            return try YAMLDecoder().decode(ProfileFile.self, from: text)
        } catch {
            throw Failure(message: "\(path) is not a file of contexts: \(Self.words(error))")
        }
    }

    func save(_ path: String) throws {
        let directory = (path as NSString).deletingLastPathComponent
        do {
            try FileManager.default.createDirectory(
                atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
            let encoder = YAMLEncoder()
            encoder.options.sortKeys = true
            try AtomicFile.write(Array(try encoder.encode(self).utf8), to: path, mode: 0o600)
        } catch let error as FileError {
            throw Failure(message: "\(path) cannot be written: \(error.reason)")
        } catch {
            throw Failure(message: "\(path) cannot be written: \(error.localizedDescription)")
        }
    }

    private static func words(_ error: any Error) -> String {
        switch error {
        case DecodingError.keyNotFound(let key, let context):
            let place = (context.codingPath.map(\.stringValue) + [key.stringValue]).joined(separator: ".")
            return "\(place) is missing"
        case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context),
            DecodingError.dataCorrupted(let context):
            let place = context.codingPath.map(\.stringValue).joined(separator: ".")
            return "\(place.isEmpty ? "" : "\(place): ")\(context.debugDescription)"
        default: return "\(error)"
        }
    }
}

extension ProfileFile {
    private enum CodingKeys: String, CodingKey {
        case current, contexts
    }

    init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        current = try values.decodeIfPresent(String.self, forKey: .current)
        contexts = try values.decodeIfPresent([String: ControlProfile].self, forKey: .contexts) ?? [:]
    }

    /// - Throws: a `Failure` that lists what there is.
    func profile(named name: String) throws -> ControlProfile {
        if let profile = contexts[name] { return profile }
        let names = contexts.keys.sorted().joined(separator: ", ")
        throw Failure(message: "there is no context \"\(name)\"; \(names.isEmpty ? "there is none at all" : "there are \(names)")")
    }
}
