import ArgumentParser
import EventStore

/// `outriggerd backup`: a copy of the log of events, while an outriggerd writes it or not.
struct BackupProgram: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "backup", abstract: "Copies the log of events of a running or stopped outriggerd.",
        discussion: """
            The copy is one moment of the log, checked from its first event; until it is whole, FILE stays as it was. To restore it, put it
            as events.sqlite into an empty data directory, or in place of the damaged one, with ca/ from where that is kept.
            """)

    @Option(name: .customLong("data-dir"), help: ArgumentHelp("Where the log of events is kept.", valueName: "folder"))
    var dataDirectory: String

    @Argument(help: ArgumentHelp("The copy.", valueName: "file"))
    var file: String

    func run() throws {
        do {
            let last = try SQLiteEventLog.backup(directory: dataDirectory, to: file)
            print("\(file): \(last?.sequence ?? 0) events\(last.map { ", the last of \($0.time.text)" } ?? "")")
        } catch {
            Log.error("backup", "\(error)")
            throw ExitCode(1)
        }
    }
}
